//! Media: records, contents, and how neither is ever without the other.

use futures_util::future::join_all;
use homeserver_storage::{MediaBlob, MediaPlace, NewAccount, NewMedia, StoredMedia, ThumbnailKey, ThumbnailRecord};
use ruma::{owned_server_name, user_id};

use crate::stage::on_each_database;

fn blob(letter: &str, size: u64) -> MediaBlob {
    MediaBlob { sha256: letter.repeat(64), size }
}

fn medium(origin: &str, media_id: &str, blob: MediaBlob, created_ts: u64) -> NewMedia {
    NewMedia {
        origin: origin.try_into().unwrap(),
        media_id: media_id.to_owned(),
        blob,
        content_type: Some("image/png".to_owned()),
        filename: Some("a\0b".to_owned()),
        uploader: (origin == "here").then(|| user_id!("@alice:here").to_owned()),
        preview: false,
        unauthenticated: false,
        created_ts,
    }
}

fn place(media_id: &str) -> MediaPlace {
    MediaPlace { origin: owned_server_name!("here"), media_id: media_id.to_owned() }
}

#[tokio::test]
async fn a_content_goes_with_its_last_record() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let (a, origin) = (blob("a", 5), owned_server_name!("here"));
        storage.announce_blob(&a, 10).await.unwrap();
        assert_eq!(storage.orphaned_blobs(11, 9).await.unwrap(), vec!["a".repeat(64)]);
        for id in ["one", "two"] {
            assert_eq!(
                storage.store_media(&medium("here", id, a.clone(), 20), None).await.unwrap(),
                StoredMedia::Stored
            );
        }
        let taken = storage.store_media(&medium("here", "one", a.clone(), 20), None).await.unwrap();
        assert_eq!(taken, StoredMedia::Taken);
        let record = storage.media(&origin, "one").await.unwrap().unwrap();
        assert_eq!((record.blob, record.filename.as_deref()), (Some(a.clone()), Some("a\u{fffd}b")));
        assert!(storage.orphaned_blobs(1_000, 9).await.unwrap().is_empty());
        assert!(!storage.forget_blob(&a.sha256).await.unwrap());

        let key = ThumbnailKey { source: a.sha256.clone(), width: 32, height: 32, method: "crop", animated: false };
        let small = ThumbnailRecord { blob: blob("b", 2), content_type: "image/png".to_owned() };
        storage.announce_blob(&small.blob, 30).await.unwrap();
        assert!(storage.store_thumbnail(&key, &small).await.unwrap());
        assert_eq!(storage.thumbnail(&key).await.unwrap(), Some(small.clone()));
        // A small image is its own thumbnail.
        let itself = ThumbnailKey { width: 96, ..key.clone() };
        let same = ThumbnailRecord { blob: a.clone(), content_type: "image/png".to_owned() };
        assert!(storage.store_thumbnail(&itself, &same).await.unwrap());
        assert_eq!(storage.fsck().await.unwrap(), vec![]);
        assert_eq!(storage.blobs("", 9).await.unwrap().len(), 2);

        assert!(storage.delete_media(&origin, "one").await.unwrap());
        assert!(!storage.forget_blob(&a.sha256).await.unwrap(), "the other record is there");
        assert!(storage.delete_media(&origin, "two").await.unwrap());
        assert!(!storage.delete_media(&origin, "two").await.unwrap());
        assert!(storage.forget_blob(&a.sha256).await.unwrap());
        assert_eq!(storage.thumbnail(&key).await.unwrap(), None);
        assert_eq!(storage.orphaned_blobs(1_000, 9).await.unwrap(), vec!["b".repeat(64)]);
        assert!(storage.forget_blob(&small.blob.sha256).await.unwrap());
        assert!(!storage.store_thumbnail(&key, &small).await.unwrap(), "what it shows is gone");
        assert_eq!(storage.fsck().await.unwrap(), vec![]);
    })
    .await;
}

#[tokio::test]
async fn reservations_are_few_and_filled_once() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let (alice, bob) = (user_id!("@alice:here"), user_id!("@bob:here"));
        assert!(storage.reserve_media(&place("r1"), alice, 100, 200, 2).await.unwrap());
        assert!(storage.reserve_media(&place("r2"), alice, 100, 200, 2).await.unwrap());
        assert!(!storage.reserve_media(&place("r3"), alice, 100, 200, 2).await.unwrap());
        assert!(storage.reserve_media(&place("r3"), bob, 100, 200, 2).await.unwrap());
        storage.announce_blob(&blob("a", 5), 100).await.unwrap();
        let fill = |id: &str, ts| medium("here", id, blob("a", 5), ts);
        assert_eq!(storage.complete_media(&fill("r3", 150), None).await.unwrap(), StoredMedia::NotReserved);
        assert_eq!(storage.complete_media(&fill("r1", 250), None).await.unwrap(), StoredMedia::NotReserved);
        assert_eq!(storage.complete_media(&fill("r1", 150), Some(4)).await.unwrap(), StoredMedia::OverQuota);
        assert_eq!(storage.complete_media(&fill("r1", 150), Some(5)).await.unwrap(), StoredMedia::Stored);
        assert_eq!(storage.complete_media(&fill("r1", 150), None).await.unwrap(), StoredMedia::NotReserved);
        assert_eq!(storage.store_media(&fill("x", 150), Some(9)).await.unwrap(), StoredMedia::OverQuota);
        assert_eq!(storage.media_usage(alice).await.unwrap().size, 5);
        let by_user = storage.media_usage_by_user(10).await.unwrap();
        assert_eq!(
            by_user.iter().map(|(user_id, usage)| (user_id.as_str(), usage.count, usage.size)).collect::<Vec<_>>(),
            [("@alice:here", 1, 5)],
            "what is only reserved is not there"
        );
        assert!(storage.media_usage_by_user(0).await.unwrap().is_empty());
        assert_eq!(storage.expire_reservations(201).await.unwrap(), 2);
        assert!(storage.media(&place("r2").origin, "r2").await.unwrap().is_none());
        assert_eq!(storage.media_of(alice, 0, 9).await.unwrap().len(), 1);
        assert_eq!(storage.fsck().await.unwrap(), vec![]);
    })
    .await;
}

#[tokio::test]
async fn s_146_uploads_at_the_same_time_share_the_quota() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let alice = user_id!("@alice:here").to_owned();
        let account = NewAccount {
            user_id: alice.clone(),
            password_hash: None,
            display_name: None,
            created_ts: 1,
            guest: false,
            admin: false,
        };
        storage.create_account(account, None).await.unwrap();
        storage.announce_blob(&blob("a", 5), 1).await.unwrap();
        let uploads = (0..8).map(|number| async move {
            storage.store_media(&medium("here", &format!("m{number}"), blob("a", 5), 10), Some(12)).await.unwrap()
        });
        let stored = join_all(uploads).await.into_iter().filter(|stored| *stored == StoredMedia::Stored).count();
        assert_eq!((stored, storage.media_usage(&alice).await.unwrap().size), (2, 10));
        let places: Vec<_> = (0..8).map(|number| place(&format!("r{number}"))).collect();
        let reserved = join_all(places.iter().map(|place| storage.reserve_media(place, &alice, 1, 9, 3))).await;
        assert_eq!(reserved.into_iter().filter(|reserved| *reserved.as_ref().unwrap()).count(), 3);
        assert!(!storage.is_unused_blob(&blob("a", 5).sha256).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_is_stale_and_what_is_hidden() {
    on_each_database(async |stage| {
        let storage = &stage.storage;
        let here = owned_server_name!("here");
        let there = owned_server_name!("remote.test");
        for (letter, size) in [("a", 5), ("b", 7)] {
            storage.announce_blob(&blob(letter, size), 1).await.unwrap();
        }
        storage.store_media(&medium("here", "own", blob("a", 5), 10), None).await.unwrap();
        storage.store_media(&medium("remote.test", "old", blob("a", 5), 10), None).await.unwrap();
        storage.store_media(&medium("remote.test", "new", blob("b", 7), 10), None).await.unwrap();
        storage.touch_media(&there, "new", 90).await.unwrap();
        assert_eq!(storage.cached_media_size().await.unwrap(), 12);
        let ids = |places: Vec<MediaPlace>| places.into_iter().map(|place| place.media_id).collect::<Vec<_>>();
        assert_eq!(ids(storage.stale_cached_media(50, 9).await.unwrap()), ["old"]);
        assert_eq!(ids(storage.stale_cached_media(u64::MAX, 9).await.unwrap()), ["old", "new"]);
        assert_eq!(ids(storage.stale_local_media(50, 9).await.unwrap()), ["own"]);

        let admin = user_id!("@admin:here");
        assert!(storage.quarantine_media(&there, "old", admin, 100).await.unwrap());
        assert!(!storage.quarantine_media(&there, "nothing", admin, 100).await.unwrap());
        let hidden = |origin, id: &'static str| async move {
            storage.media(origin, id).await.unwrap().unwrap().quarantined_by.is_some()
        };
        assert!(hidden(&there, "old").await && hidden(&here, "own").await, "the same content under another name");
        assert!(!hidden(&there, "new").await);
        assert!(storage.release_media(&there, "old").await.unwrap());
        assert!(!hidden(&there, "old").await && !hidden(&here, "own").await);
        assert!(storage.protect_media(&here, "own", true).await.unwrap());
        assert!(storage.stale_local_media(50, 9).await.unwrap().is_empty());
    })
    .await;
}
