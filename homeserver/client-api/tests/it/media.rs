//! Files: what is uploaded comes back as it was, and harms nobody on the way.

use std::{
    io::Cursor,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use media::{BlobId, BlobStore, Spooled, StoreError};
use outbound::{ByteStream, CallLimits, Transport, TransportError};
use ruma::ServerName;
use serde_json::json;

use crate::server::{Reply, Session, Setup, TestServer};

mod damage;
mod hostile;

const DOWNLOAD: &str = "/_matrix/client/v1/media/download";
const THUMBNAIL: &str = "/_matrix/client/v1/media/thumbnail";

impl TestServer {
    async fn put_file(&self, method: Method, path: &str, user: &Session, kind: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder().method(method).uri(path).header("Content-Type", kind);
        let request = request.header("Authorization", format!("Bearer {}", user.token));
        self.request(request.body(body.into()).unwrap()).await
    }

    /// Uploads a file, and returns `server/id`.
    async fn upload(&self, user: &Session, name: &str, kind: &str, body: impl Into<Body>) -> String {
        let path = format!("/_matrix/media/v3/upload?filename={name}");
        let reply = self.put_file(Method::POST, &path, user, kind, body).await.ok();
        reply["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
    }

    async fn download(&self, user: &Session, place: &str) -> Reply {
        self.get_as(user, &format!("{DOWNLOAD}/{place}")).await
    }

    async fn download_with(&self, user: &Session, place: &str, header: &str, value: &str) -> Reply {
        let request = Request::get(format!("{DOWNLOAD}/{place}")).header(header, value);
        let request = request.header("Authorization", format!("Bearer {}", user.token));
        self.request(request.body(Body::empty()).unwrap()).await
    }

    fn blobs(&self) -> usize {
        fn count(folder: &std::path::Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(self.media.path())
    }
}

/// A picture of 200 x 100.
fn picture() -> Vec<u8> {
    let pixels = image::RgbImage::from_fn(200, 100, |x, y| image::Rgb([x as u8, y as u8, 0]));
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[tokio::test]
async fn a_file_comes_back_as_it_was() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let place = server.upload(&alice, "name%20with%20spaces", "img/png", "content").await;
    let reply = server.download(&bob, &place).await;
    assert_eq!((reply.status, &reply.bytes[..]), (200, &b"content"[..]));
    assert_eq!(reply.headers["content-type"], "img/png");
    assert_eq!(reply.headers["content-length"], "7");
    assert_eq!(reply.headers["content-disposition"], "attachment; filename=\"name with spaces\"");
    let reply = server.download(&bob, &format!("{place}/%E2%98%95.png")).await;
    assert_eq!(reply.headers["content-disposition"], "attachment; filename=\"_.png\"; filename*=utf-8''%E2%98%95.png");
    let again = server.upload(&bob, "other", "text/plain", "content").await;
    assert_ne!(place, again);
    assert_eq!(server.blobs(), 1, "the same content is kept once");
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(server.get_as(&alice, path).await.ok()["m.upload.size"], 104_857_600);
    }
    server.download(&bob, "example.org/nothing").await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn s_145_served_so_that_no_browser_runs_it() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for kind in ["image/svg+xml", "text/html", "Text/HTML; charset=utf-8", "application/pdf", "application/xml"] {
        let place = server.upload(&alice, "page", kind, "<script>alert(1)</script>").await;
        let reply = server.download(&alice, &place).await;
        let header = |name: &str| reply.headers[name].to_str().unwrap();
        assert!(header("content-disposition").starts_with("attachment"), "{kind}");
        assert!(header("content-security-policy").starts_with("sandbox; default-src 'none'"), "{kind}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cross-origin-resource-policy"), "cross-origin");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(header("cache-control").starts_with("private"), "{kind}");
    }
    let place = server.upload(&alice, "a.png", "image/png", "<script>").await;
    let reply = server.download(&alice, &place).await;
    assert_eq!(reply.headers["content-disposition"], "inline; filename=\"a.png\"");
}

#[tokio::test]
async fn s_145_parts_and_what_a_client_has_already() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let place = server.upload(&alice, "a", "text/plain", "0123456789").await;
    let reply = server.download_with(&alice, &place, "Range", "bytes=2-4").await;
    assert_eq!((reply.status, &reply.bytes[..]), (206, &b"234"[..]));
    assert_eq!(reply.headers["content-range"], "bytes 2-4/10");
    let reply = server.download_with(&alice, &place, "Range", "bytes=10-").await;
    assert_eq!((reply.status, reply.headers["content-range"].to_str().unwrap()), (416, "bytes */10"));
    let many = format!("bytes={}", vec!["0-9"; 1_000].join(","));
    let reply = server.download_with(&alice, &place, "Range", &many).await;
    assert_eq!((reply.status, reply.bytes.len()), (200, 10));
    let etag = reply.headers["etag"].to_str().unwrap().to_owned();
    let reply = server.download_with(&alice, &place, "If-None-Match", &format!("\"x\", {etag}")).await;
    assert_eq!((reply.status, reply.bytes.len()), (304, 0));
    let empty = server.upload(&alice, "empty", "text/plain", "").await;
    let reply = server.download(&alice, &empty).await;
    assert_eq!((reply.status, reply.bytes.len()), (200, 0));
}

#[tokio::test]
async fn s_146_limits_quota_and_reservations() {
    let server = TestServer::start_as(Setup {
        media: |media| {
            media.upload_max_bytes = 1_000;
            media.user_quota_bytes = Some(1_500);
        },
        ..Setup::default()
    })
    .await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path = "/_matrix/media/v3/upload";
    let refused = server.put_file(Method::POST, path, &alice, "a/b", vec![0; 1_001]).await;
    refused.assert_error(413, "M_TOO_LARGE");
    let pieces = [0, 1].map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![0; 600])));
    let stream = futures_util::stream::iter(pieces);
    let refused = server.put_file(Method::POST, path, &alice, "a/b", Body::from_stream(stream)).await;
    refused.assert_error(413, "M_TOO_LARGE");
    let broken = futures_util::stream::iter([Ok(Bytes::from("a")), Err(std::io::Error::other("gone"))]);
    let refused = server.put_file(Method::POST, path, &alice, "a/b", Body::from_stream(broken)).await;
    refused.assert_error(400, "M_UNKNOWN");
    assert_eq!(server.blobs(), 0, "nothing is left of them");
    server.upload(&alice, "a", "a/b", vec![1; 1_000]).await;
    server.put_file(Method::POST, path, &alice, "a/b", vec![2; 600]).await.assert_error(403, "M_FORBIDDEN");
    let unannounced = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 600]))]);
    let refused = server.put_file(Method::POST, path, &alice, "a/b", Body::from_stream(unannounced)).await;
    refused.assert_error(403, "M_FORBIDDEN");
    assert_eq!(server.blobs(), 1, "nothing is left of what was too much");
    server.upload(&bob, "a", "a/b", vec![2; 600]).await;

    let create = || server.post_as(&bob, "/_matrix/media/v1/create", json!({}));
    let reserved = create().await.ok();
    assert_eq!(reserved["unused_expires_at"], 1_700_086_400_000_u64);
    let place = reserved["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    let reply = server.download(&bob, &format!("{place}?timeout_ms=0")).await;
    reply.assert_error(504, "M_NOT_YET_UPLOADED");
    let reply = server.get(&format!("/_matrix/media/v3/download/{place}")).await;
    reply.assert_error(404, "M_NOT_FOUND");
    let put = |user: Session| {
        let (server, path) = (&server, format!("{path}/{place}"));
        async move { server.put_file(Method::PUT, &path, &user, "text/plain", "late").await }
    };
    put(alice.clone()).await.assert_error(403, "M_FORBIDDEN");
    let waiting = async { server.download(&alice, &place).await };
    let uploading = async { put(bob.clone()).await };
    let (waited, uploaded) = futures_util::future::join(waiting, uploading).await;
    uploaded.ok();
    assert_eq!((waited.status, &waited.bytes[..]), (200, &b"late"[..]));
    put(bob.clone()).await.assert_error(409, "M_CANNOT_OVERWRITE_MEDIA");
    for _ in 0..50 {
        create().await.ok();
    }
    create().await.assert_error(429, "M_LIMIT_EXCEEDED");
    server.clock.advance(Duration::from_hours(24));
    let late = create().await.ok()["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    server.clock.advance(Duration::from_hours(25));
    let reply = server.put_file(Method::PUT, &format!("{path}/{late}"), &bob, "a/b", "x").await;
    reply.assert_error(404, "M_NOT_FOUND");
    let reply = server.put_file(Method::PUT, &format!("{path}/elsewhere.test/abc"), &bob, "a/b", "x").await;
    reply.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn s_144_hostile_places() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for place in
        ["../x", "%2e%2e/x", "example.org/..", "example.org/a%2fb", "example.org/a.png", "a%00b/x", "-a/x", "a..b/x"]
    {
        let reply = server.download(&alice, place).await;
        assert!(matches!(reply.status, 400 | 404), "{place}: {}", reply.text);
        let reply = server.get_as(&alice, &format!("{THUMBNAIL}/{place}?width=32&height=32")).await;
        assert!(matches!(reply.status, 400 | 404), "{place}: {}", reply.text);
    }
}

#[tokio::test]
async fn thumbnails_are_made_once_and_go_with_their_image() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let place = server.upload(&alice, "a.txt", "text/plain", picture()).await;
    let get = |query: &'static str| {
        let (server, alice, path) = (&server, &alice, format!("{THUMBNAIL}/{place}?{query}"));
        async move { server.get_as(alice, &path).await }
    };
    let reply = get("width=30&height=30&method=crop").await;
    let size = image::load_from_memory(&reply.bytes).unwrap();
    assert_eq!((reply.headers["content-type"].to_str().unwrap(), size.width(), size.height()), ("image/png", 32, 32));
    assert_eq!(server.blobs(), 2);
    assert_eq!(get("width=32&height=32&method=crop").await.bytes, reply.bytes);
    assert_eq!(server.blobs(), 2);
    assert_eq!(get("width=800&height=600").await.bytes, picture(), "no larger than it is");
    let (origin, media_id) = place.split_once('/').unwrap();
    server.engine.delete_medium(origin.try_into().unwrap(), media_id).await.unwrap();
    get("width=32&height=32&method=crop").await.assert_error(404, "M_NOT_FOUND");
    server.clock.advance(Duration::from_hours(2));
    server.engine.keep_house().await.unwrap();
    assert_eq!(server.blobs(), 0);
    assert_eq!(server.engine.storage().fsck().await.unwrap(), vec![]);
}

#[tokio::test]
async fn s_149_hostile_images_and_sizes() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let huge = hostile::claiming(50_000, 50_000);
    let whole = picture();
    let table = [
        (huge, 413, "M_TOO_LARGE"),
        (whole[..whole.len() / 2].to_vec(), 400, "M_UNKNOWN"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), 400, "M_UNKNOWN"),
        (b"<!doctype html><script>alert(1)</script>".to_vec(), 400, "M_UNKNOWN"),
    ];
    for (content, status, errcode) in table {
        let place = server.upload(&alice, "a.png", "image/png", content).await;
        for _ in 0..2 {
            let reply = server.get_as(&alice, &format!("{THUMBNAIL}/{place}?width=32&height=32")).await;
            reply.assert_error(status, errcode);
        }
    }
    let place = server.upload(&alice, "a.png", "image/png", whole).await;
    for query in ["", "width=0&height=32", "width=-1&height=32", "width=a&height=32", "width=32"] {
        let reply = server.get_as(&alice, &format!("{THUMBNAIL}/{place}?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text);
    }
    let reply = server.get_as(&alice, &format!("{THUMBNAIL}/{place}?width=1000000&height=1000000")).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn s_150_what_is_quarantined_is_gone_by_every_way() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let place = server.upload(&alice, "a.png", "image/png", picture()).await;
    let thumbnail = format!("{THUMBNAIL}/{place}?width=32&height=32");
    server.get_as(&bob, &thumbnail).await.ok();
    let (origin, media_id) = place.split_once('/').unwrap();
    let origin: &ServerName = origin.try_into().unwrap();
    let admin = ruma::user_id!("@admin:example.org");
    server.engine.quarantine_medium(admin, origin, media_id).await.unwrap();
    let again = server.upload(&bob, "b.png", "image/png", picture()).await;
    for path in [
        format!("{DOWNLOAD}/{place}"),
        format!("{DOWNLOAD}/{place}/name.png"),
        format!("/_matrix/media/v3/download/{place}"),
        format!("/_matrix/media/v3/thumbnail/{place}?width=32&height=32"),
        thumbnail.clone(),
        format!("{DOWNLOAD}/{again}"),
    ] {
        server.get_as(&bob, &path).await.assert_error(404, "M_NOT_FOUND");
    }
    server.engine.release_medium(origin, media_id).await.unwrap();
    assert_eq!(server.download(&bob, &again).await.status, 200);
}

/// Another server, which counts how often it is asked.
#[derive(Default)]
struct Remote {
    asked: AtomicUsize,
}

impl Transport for Remote {
    fn send<'a>(
        &'a self,
        _: &'a ServerName,
        request: Request<Bytes>,
        _: CallLimits,
    ) -> BoxFuture<'a, Result<Response<Bytes>, TransportError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        async move {
            let part =
                |headers: &str, body: &str| format!("--b\r\n\r\n{{}}\r\n--b\r\n{headers}\r\n{body}\r\n--b--\r\n");
            let mixed = |body: String| {
                Response::builder().header("Content-Type", "multipart/mixed; boundary=b").body(body.into())
            };
            let answer = match request.uri().path().rsplit('/').next().unwrap_or_default() {
                "page" => mixed(part(
                    "Content-Type: text/html\r\nContent-Disposition: inline; filename=a.html\r\n",
                    "<script>",
                )),
                "moved" => mixed(part("Location: https://127.0.0.1/private\r\n", "")),
                "plain" => mixed(part("Location: http://files.test/x\r\n", "")),
                "odd" => Response::builder().header("Content-Type", "multipart/mixed").body("--b".into()),
                "large" => mixed(part("", &"x".repeat(5_000))),
                "slow" => return Err(TransportError::Deadline(Duration::from_secs(30))),
                "flaky" => mixed(part("Content-Type: text/plain\r\n", "as it was")),
                name if hostile::file(name).is_some() => hostile::in_two_parts(name),
                "busy" => Response::builder().status(503).body(Bytes::new()),
                "dead" => return Err(TransportError::Unreachable("no".to_owned())),
                _ => Response::builder().status(404).body(r#"{"errcode":"M_NOT_FOUND"}"#.into()),
            };
            Ok(answer.unwrap())
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a str, _: CallLimits) -> BoxFuture<'a, Result<Response<ByteStream>, TransportError>> {
        async { Err(TransportError::Denied("it is a private address".to_owned())) }.boxed()
    }
}

async fn with_remote() -> (TestServer, Arc<Remote>) {
    with_remote_and(|media| media.remote_max_bytes = 4_000).await
}

async fn with_remote_and(media: fn(&mut engine::MediaSettings)) -> (TestServer, Arc<Remote>) {
    let remote = Arc::new(Remote::default());
    let transport: Arc<dyn Transport> = remote.clone();
    (TestServer::start_as(Setup { transport: Some(transport), media, ..Setup::default() }).await, remote)
}

#[tokio::test]
async fn another_servers_file_is_fetched_once_for_all() {
    let (server, remote) = with_remote().await;
    let alice = server.register("alice").await;
    let asking = (0..10).map(|_| server.download(&alice, "remote.test/page"));
    for reply in futures_util::future::join_all(asking).await {
        assert_eq!((reply.status, &reply.bytes[..]), (200, &b"<script>"[..]));
        assert_eq!(reply.headers["content-disposition"], "attachment; filename=\"a.html\"");
    }
    assert_eq!(remote.asked.load(Ordering::SeqCst), 1);
    assert_eq!(server.engine.purge_media_cache(u64::MAX).await.unwrap(), 1);
    assert_eq!(server.blobs(), 0);
}

#[tokio::test]
async fn s_148_nonsense_of_other_servers() {
    let (server, remote) = with_remote().await;
    let alice = server.register("alice").await;
    for (media_id, status, errcode) in [
        ("odd", 502, "M_UNKNOWN"),
        ("moved", 502, "M_UNKNOWN"),
        ("plain", 502, "M_UNKNOWN"),
        ("large", 502, "M_TOO_LARGE"),
        ("nothing", 404, "M_NOT_FOUND"),
        ("dead", 502, "M_UNKNOWN"),
    ] {
        let before = remote.asked.load(Ordering::SeqCst);
        for _ in 0..3 {
            server.download(&alice, &format!("remote.test/{media_id}")).await.assert_error(status, errcode);
        }
        assert_eq!(remote.asked.load(Ordering::SeqCst), before + 1, "{media_id}: it is not asked again and again");
    }
    assert_eq!(server.blobs(), 0);
}

#[tokio::test]
async fn s_148_what_passes_is_not_remembered() {
    let (server, remote) = with_remote().await;
    let alice = server.register("alice").await;
    for media_id in ["slow", "busy"] {
        for _ in 0..2 {
            server.download(&alice, &format!("remote.test/{media_id}")).await.assert_error(502, "M_UNKNOWN");
        }
    }
    assert_eq!(remote.asked.load(Ordering::SeqCst), 4);
    assert_eq!(server.download(&alice, "remote.test/page").await.status, 200, "that server has other files");
}

/// Where nothing can be removed the first time.
#[derive(Debug)]
struct Stubborn {
    files: Arc<dyn BlobStore>,
    refused: AtomicUsize,
}

impl BlobStore for Stubborn {
    fn put(&self, blob: Spooled) -> BoxFuture<'_, Result<(), StoreError>> {
        self.files.put(blob)
    }

    fn read<'a>(&'a self, blob_id: &'a BlobId, range: Range<u64>) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        self.files.read(blob_id, range)
    }

    fn size<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        self.files.size(blob_id)
    }

    fn delete<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.refused.fetch_add(1, Ordering::SeqCst) == 0 {
            let error = std::io::Error::other("not now");
            return async { Err(StoreError::Files { path: "blobs".into(), error }) }.boxed();
        }
        self.files.delete(blob_id)
    }

    fn file(&self, blob_id: &BlobId) -> Option<PathBuf> {
        self.files.file(blob_id)
    }
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_later() {
    let media: fn(&mut engine::MediaSettings) =
        |media| media.store = Arc::new(Stubborn { files: media.store.clone(), refused: AtomicUsize::new(0) });
    let server = TestServer::start_as(Setup { media, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let place = server.upload(&alice, "a", "text/plain", "a").await;
    let (origin, media_id) = place.split_once('/').unwrap();
    assert!(server.engine.delete_medium(origin.try_into().unwrap(), media_id).await.is_err());
    server.download(&alice, &place).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(server.blobs(), 1);
    server.clock.advance(Duration::from_hours(2));
    server.engine.keep_house().await.unwrap();
    assert_eq!(server.blobs(), 0);
}

#[tokio::test]
async fn s_147_the_old_endpoints_are_frozen_and_fetch_nothing_for_nobody() {
    let (server, remote) = with_remote().await;
    let alice = server.register("alice").await;
    let place = server.upload(&alice, "a", "text/plain", "new").await;
    for version in ["r0", "v3"] {
        for path in [
            format!("download/{place}"),
            format!("download/{place}/name"),
            format!("thumbnail/{place}?width=1&height=1"),
        ] {
            server.get(&format!("/_matrix/media/{version}/{path}")).await.assert_error(404, "M_NOT_FOUND");
        }
    }
    server.get("/_matrix/media/v3/download/remote.test/page").await.assert_error(404, "M_NOT_FOUND");
    let kept_away = "/_matrix/media/v3/download/remote.test/page?allow_remote=false";
    server.get_as(&alice, kept_away).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(remote.asked.load(Ordering::SeqCst), 0);
    assert_eq!(server.get_as(&alice, &format!("/_matrix/media/v3/download/{place}")).await.status, 200);

    let open =
        TestServer::start_as(Setup { media: |media| media.unauthenticated_access = true, ..Setup::default() }).await;
    let alice = open.register("alice").await;
    let place = open.upload(&alice, "a", "text/plain", "old").await;
    assert_eq!(open.get(&format!("/_matrix/media/v3/download/{place}")).await.status, 200);
}

#[tokio::test]
async fn what_is_old_makes_room() {
    let (server, _) = with_remote().await;
    let alice = server.register("alice").await;
    server.upload(&alice, "a", "text/plain", "ours").await;
    server.download(&alice, "remote.test/page").await;
    assert_eq!(server.blobs(), 2);
    server.engine.keep_house().await.unwrap();
    assert_eq!(server.blobs(), 2);
    server.clock.advance(Duration::from_hours(50));
    let small = TestServer::start_as(Setup {
        media: |media| {
            media.uploads_kept_ms = Some(1_000);
            media.cache_max_bytes = Some(1);
        },
        transport: Some(Arc::new(Remote::default())),
        ..Setup::default()
    })
    .await;
    let alice = small.register("alice").await;
    let place = small.upload(&alice, "a", "text/plain", "ours").await;
    small.download(&alice, "remote.test/page").await;
    assert_eq!(small.blobs(), 1, "what was fetched is too much");
    small.clock.advance(Duration::from_secs(2));
    small.engine.keep_house().await.unwrap();
    small.download(&alice, &place).await.assert_error(404, "M_NOT_FOUND");
    assert_eq!(small.blobs(), 0);
}

#[tokio::test]
async fn s_151_previews_are_for_users_and_off_by_default() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v1/media/preview_url?url=https%3A%2F%2Fexample.test%2F";
    server.get(path).await.assert_error(401, "M_MISSING_TOKEN");
    server.get_as(&alice, path).await.assert_error(403, "M_FORBIDDEN");
}
