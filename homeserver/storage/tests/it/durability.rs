//! Opening: what is promised is checked, and nothing is created where something is missing.

use std::io::Write;

use homeserver_storage::{CommitError, Durability, OpenError, Options, Storage, StorageError, Submission};
use sqlx::{Connection, SqliteConnection};

use crate::stage::{PostgresDatabase, extremities, live, membership, message, on_each_database, options, user};

fn url(directory: &tempfile::TempDir) -> String {
    format!("sqlite:{}", directory.path().join("nudge.db").display())
}

async fn refused(options: &Options) -> OpenError {
    match Storage::open(options).await {
        Ok(_) => panic!("{} was opened", options.url),
        Err(error) => error,
    }
}

#[tokio::test]
async fn r_10_a_database_that_lost_its_file_is_not_created_anew() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::open(&options(&url(&directory))).await.unwrap();
    storage.close().await;
    std::fs::rename(directory.path().join("nudge.db"), directory.path().join("elsewhere.db")).unwrap();
    std::fs::write(directory.path().join("nudge.db-wal"), "left behind").unwrap();
    let error = refused(&options(&url(&directory))).await;
    assert!(matches!(&error, OpenError::MissingDatabase { remnant, .. } if remnant.ends_with("-wal")), "{error}");
    assert!(!directory.path().join("nudge.db").exists());
}

#[tokio::test]
async fn r_10_urls_of_other_databases_are_refused_without_their_password() {
    for url in ["mysql://user:hunter2@host/db", "/var/lib/nudge.db", "", "postgres://user:hunter2@host:port/db"] {
        let error = refused(&options(url)).await;
        assert!(matches!(error, OpenError::Url { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn r_03_full_durability_flushes_each_commit() {
    let directory = tempfile::tempdir().unwrap();
    for durability in [Durability::Full, Durability::Relaxed] {
        let storage = Storage::open(&Options { durability, ..options(&url(&directory)) }).await.unwrap();
        storage.ping().await.unwrap();
        storage.close().await;
    }
}

/// The tests' cluster runs without fsync, so it cannot promise that much; one that runs with it is accepted.
#[tokio::test]
async fn r_03_a_cluster_that_does_not_flush_is_refused() {
    let Some(database) = PostgresDatabase::create_if_possible().await else { return };
    let full = Options { durability: Durability::Full, ..options(&database.url) };
    match Storage::open(&full).await {
        Err(OpenError::Durability { setting, value, .. }) => assert_eq!((setting, value.as_str()), ("fsync", "off")),
        Err(other) => panic!("{other}"),
        Ok(storage) => storage.close().await,
    }
    database.drop().await;
}

#[tokio::test]
async fn memory_serves_as_a_database() {
    let storage = Storage::open(&options("sqlite::memory:")).await.unwrap();
    let other = Storage::open(&options("sqlite::memory:")).await.unwrap();
    let submission = Submission { room: None, changes: vec![membership("@alice:here", "join", "$j")] };
    let (first, second) = tokio::join!(storage.commit(submission.clone()), storage.commit(submission));
    assert_eq!((first.unwrap().position, second.unwrap().position), (1, 2));
    assert_eq!((storage.head(), other.head()), (2, 0), "each has its own");
    assert!(storage.fsck().await.unwrap().is_empty());
    storage.close().await;
}

/// A disk that gives back garbage stands for one that fails: both leave uncertain what is on it.
#[tokio::test]
async fn r_10_after_the_disk_fails_nothing_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Storage::open(&options(&url(&directory))).await.unwrap();
    let commit = async |n: u32| {
        let change = membership(&format!("@user{n}:here"), "join", "$j");
        storage.commit(Submission { room: None, changes: vec![change] }).await
    };
    for n in 0..500 {
        commit(n).await.unwrap();
    }
    // A change by somebody else, so that the storage has to read the file again.
    let mut other = SqliteConnection::connect(&url(&directory)).await.unwrap();
    for sql in ["CREATE TABLE other (x TEXT)", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::query(sql).execute(&mut other).await.unwrap();
    }
    other.close().await.unwrap();
    let path = directory.path().join("nudge.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xff);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&bytes).unwrap();

    let outcome = commit(500).await;
    assert!(matches!(outcome, Err(CommitError::Storage(StorageError::Unavailable(_)))), "{outcome:?}");
    let outcome = commit(501).await;
    assert!(matches!(outcome, Err(CommitError::Storage(StorageError::ReadOnly))), "{outcome:?}");
    let outcome = storage.store_filter(&user("@alice:here"), "{}", 0, 10).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

/// What is done before anybody hears of a commit is others' work, and may panic.
#[tokio::test]
async fn r_36_a_commit_that_panics_ends_neither_the_committer_nor_what_comes_after() {
    on_each_database(async |stage| {
        stage.create_room().await;
        let before = stage.storage.head();
        let panics =
            Submission { room: None, changes: vec![live(&message("$one", "$alice_joins")), extremities(&["$one"])] };
        let outcome =
            stage.storage.commit_and(panics, |_| panic!("this is meant to be seen in the log of the test")).await;
        assert!(matches!(outcome, Err(CommitError::Storage(StorageError::Panicked))), "{outcome:?}");
        // It had happened by then, and is told of though nothing else is written.
        let mut head = stage.storage.subscribe();
        head.wait_for(|head| *head > before).await.unwrap();
        assert!(stage.stored("$one").await.is_some());
        assert_eq!(stage.storage.tasks().panicked_lately(), ["committer"]);
        stage.commit_unguarded(vec![live(&message("$two", "$one")), extremities(&["$two"])]).await.unwrap();
        stage.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn connections_that_broke_are_replaced() {
    on_each_database(async |stage| {
        stage.create_room().await;
        if stage.storage.backend() != "PostgreSQL" {
            return;
        }
        let kill = "SELECT pg_terminate_backend(pid)::TEXT FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'nudge'";
        let killed = stage.query(kill).await;
        assert!(!killed.is_empty());
        let changes = vec![live(&message("$one", "$alice_joins")), extremities(&["$one"])];
        stage.commit_unguarded(changes).await.unwrap();
        // Readers notice one after the other.
        for _ in 0..20 {
            if stage.storage.ping().await.is_ok() {
                break;
            }
        }
        stage.storage.ping().await.unwrap();
        assert!(stage.stored("$one").await.is_some());
    })
    .await;
}
