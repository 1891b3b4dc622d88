//! Files that somebody has removed, cut short, or that a disk has changed.

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use engine::{MediaAsker, Medium};
use futures_util::TryStreamExt as _;
use storage::MediaBlob;

use super::{DOWNLOAD, THUMBNAIL, picture, with_remote};
use crate::server::{Session, TestServer};

/// The files that hold contents.
fn contents(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { contents(&path) } else { vec![path] }).collect()
}

impl TestServer {
    fn content_of(&self, content: &[u8]) -> PathBuf {
        // What is being received lies there as well, under other names, and goes at any time.
        let is_blob = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
        let is_it = |path: &PathBuf| is_blob(path) && std::fs::read(path).is_ok_and(|read| read == content);
        contents(self.media.path()).into_iter().find(is_it).unwrap()
    }

    async fn medium(&self, user: &Session, place: &str) -> engine::Result<Medium> {
        let asker = MediaAsker::User((&*user.user_id).try_into().unwrap());
        let (origin, media_id) = place.split_once('/').unwrap();
        self.engine.medium(&asker, origin.try_into().unwrap(), media_id, Duration::ZERO).await
    }

    /// What is read of a medium before it ends or breaks off, and whether it broke off.
    async fn read(&self, user: &Session, place: &str) -> (Vec<u8>, bool) {
        let medium = self.medium(user, place).await.unwrap();
        let mut body = self.engine.read_medium(&medium, 0..medium.size()).await.unwrap();
        let mut read = Vec::new();
        loop {
            match body.try_next().await {
                Ok(Some(piece)) => read.extend_from_slice(&piece),
                Ok(None) => return (read, false),
                Err(_) => return (read, true),
            }
        }
    }
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn r_12_what_a_user_uploaded_is_never_served_as_something_else() {
    let (server, _) = with_remote().await;
    let alice = server.register("alice").await;
    for (content, damage) in [
        ("removed", (|path| std::fs::remove_file(path).unwrap()) as fn(&Path)),
        ("cut short", |path| std::fs::write(path, "cut").unwrap()),
    ] {
        let place = server.upload(&alice, "a", "text/plain", content).await;
        damage(&server.content_of(content.as_bytes()));
        for range in ["bytes=0-", "bytes=1-6"] {
            let reply = server.download_with(&alice, &place, "Range", range).await;
            reply.assert_error(404, "M_NOT_FOUND");
        }
        server.download(&alice, &place).await.assert_error(404, "M_NOT_FOUND");
        server.upload(&alice, "a", "text/plain", content).await;
        let reply = server.download(&alice, &place).await;
        assert_eq!((reply.status, &*reply.text), (200, content), "whoever uploads it again puts it right");
    }
    let place = server.upload(&alice, "a", "text/plain", "turned").await;
    flip(&server.content_of(b"turned"));
    assert_eq!(server.read(&alice, &place).await, (Vec::new(), true), "it ends before its end");
}

#[tokio::test]
async fn r_12_what_can_be_had_again_is_fetched_and_made_again() {
    let (server, remote) = with_remote().await;
    let alice = server.register("alice").await;
    let asked = || remote.asked.load(Ordering::SeqCst);
    let place = "remote.test/flaky";
    assert_eq!(server.download(&alice, place).await.text, "as it was");
    std::fs::remove_file(server.content_of(b"as it was")).unwrap();
    server.download(&alice, place).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!((server.download(&alice, place).await.text.as_str(), asked()), ("as it was", 2));
    flip(&server.content_of(b"as it was"));
    assert_eq!(server.read(&alice, place).await, (Vec::new(), true));
    // It is forgotten beside the answer that broke off.
    while server.read(&alice, place).await.1 {
        tokio::task::yield_now().await;
    }
    assert_eq!((server.download(&alice, place).await.text.as_str(), asked()), ("as it was", 3));

    let image = server.upload(&alice, "a.png", "image/png", picture()).await;
    let thumbnail = format!("{THUMBNAIL}/{image}?width=32&height=32&method=crop");
    let made = server.get_as(&alice, &thumbnail).await.bytes;
    std::fs::remove_file(server.content_of(&made)).unwrap();
    server.get_as(&alice, &thumbnail).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(server.get_as(&alice, &thumbnail).await.bytes, made);
    std::fs::remove_file(server.content_of(&picture())).unwrap();
    let other = format!("{THUMBNAIL}/{image}?width=96&height=96&method=crop");
    server.get_as(&alice, &other).await.assert_error(404, "M_NOT_FOUND");
    server.get_as(&alice, &format!("{DOWNLOAD}/{image}")).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn r_12_what_a_crash_left_between_file_and_record_is_collected() {
    let (server, _) = with_remote().await;
    let content = b"nobody's";
    let sha256 = "766d63f0332125220adc982e51598010024acc16a916d500187bf15f5d0e4a54";
    let blob = MediaBlob { sha256: sha256.to_owned(), size: content.len() as u64 };
    // As an upload leaves it that was killed before its record was written: the row of the content comes first.
    server.engine.storage().announce_blob(&blob, 1_700_000_000_000).await.unwrap();
    let alice = server.register("alice").await;
    server.upload(&alice, "a", "text/plain", "somebody's").await;
    let somebodys = server.content_of(b"somebody's");
    let blobs = somebodys.ancestors().nth(3).unwrap();
    let path = blobs.join(&sha256[..2]).join(&sha256[2..4]).join(sha256);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    server.engine.keep_house().await.unwrap();
    assert!(path.exists(), "it may be about to get its record");
    server.clock.advance(Duration::from_hours(2));
    server.engine.keep_house().await.unwrap();
    assert!(!path.exists() && somebodys.exists());
    assert_eq!(server.engine.storage().fsck().await.unwrap(), vec![]);
}
