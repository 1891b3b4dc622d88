//! Nothing is taken twice, and nothing is forgotten.

use super::{Owed, Store};

async fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Store::open(&folder.path().join("bots.db")).await.unwrap(), folder)
}

fn event(id: &str) -> (String, String, String) {
    (id.to_owned(), "!room:test".to_owned(), format!("{{\"event_id\":\"{id}\"}}"))
}

fn owed(event_id: &str, bot: &str) -> Owed {
    Owed {
        event_id: event_id.to_owned(),
        bot: bot.to_owned(),
        room_id: "!room:test".to_owned(),
        task: None,
        event: "{}".to_owned(),
    }
}

#[tokio::test]
async fn events_count_once_in_whatever_transaction_they_come() {
    let (store, folder) = store().await;
    assert_eq!(store.receive(&[event("$a"), event("$b")], 5).await.unwrap(), 2);
    assert_eq!(store.receive(&[event("$a"), event("$b")], 5).await.unwrap(), 0, "the same again");
    assert_eq!(store.receive(&[event("$b"), event("$c")], 6).await.unwrap(), 1, "one of them again");
    store.close().await;
    let store = Store::open(&folder.path().join("bots.db")).await.unwrap();
    let waiting = store.next_of("!room:test", 0).await.unwrap();
    assert_eq!(waiting.len(), 3);
    store.work_off(&[waiting[0].position], &[], 7).await.unwrap();
    assert_eq!(store.receive(&[event("$a")], 8).await.unwrap(), 0, "what was worked off stays known");
    assert_eq!(store.next_of("!room:test", 0).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_answer_is_owed_once_and_goes_on_where_it_was() {
    let (store, folder) = store().await;
    store.work_off(&[], &[owed("$a", "@x:t"), owed("$a", "@y:t"), owed("$a", "@x:t")], 1).await.unwrap();
    let job = store.next_job("!room:test").await.unwrap().unwrap();
    store.note_shown(job.position, "$part").await.unwrap();
    store.note_text(job.position, "words", "model").await.unwrap();
    store.close().await;
    let store = Store::open(&folder.path().join("bots.db")).await.unwrap();
    let job = store.next_job("!room:test").await.unwrap().unwrap();
    assert_eq!((job.bot.as_str(), job.shown.as_deref(), job.text.as_deref()), ("@x:t", Some("$part"), Some("words")));
    store.finish(job.position, Some("$sent")).await.unwrap();
    assert_eq!(store.sender_of("$sent").await.unwrap().as_deref(), Some("@x:t"));
    let next = store.next_job("!room:test").await.unwrap().unwrap();
    assert_eq!(next.bot, "@y:t");
    store.finish(next.position, None).await.unwrap();
    store.work_off(&[], &[owed("$a", "@x:t")], 1).await.unwrap();
    assert!(store.next_job("!room:test").await.unwrap().is_none(), "what is done is not owed again");
    assert!(store.rooms_with_jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_of_before_gets_its_new_columns_and_failures_are_counted() {
    let (store, folder) = store().await;
    store.receive(&[event("$a")], 5).await.unwrap();
    store.work_off(&[], &[owed("$a", "@x:t")], 1).await.unwrap();
    for (table, column) in super::COLUMNS {
        let statement = sqlx::AssertSqlSafe(format!("ALTER TABLE {table} DROP COLUMN {column}"));
        sqlx::raw_sql(statement).execute(&store.pool).await.unwrap();
    }
    store.close().await;
    let store = Store::open(&folder.path().join("bots.db")).await.unwrap();
    let position = store.next_of("!room:test", 0).await.unwrap()[0].position;
    assert_eq!(store.event_failed(position).await.unwrap(), 1);
    assert_eq!(store.event_failed(position).await.unwrap(), 2);
    let job = store.next_job("!room:test").await.unwrap().unwrap();
    assert_eq!((job.is_permitted, job.is_begun, store.job_failed(job.position).await.unwrap()), (false, false, 1));
    store.note_permitted(job.position).await.unwrap();
    store.note_begun(job.position).await.unwrap();
    let job = store.next_job("!room:test").await.unwrap().unwrap();
    assert_eq!((job.is_permitted, job.is_begun, store.job_failed(job.position).await.unwrap()), (true, true, 2));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_reads_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    crate::system::make_private_folder(&inner).unwrap();
    let store = Store::open(&inner.join("bots.db")).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("bots.db")), mode(&inner.join("bots.db-wal"))), (0o700, 0o600, 0o600));
    store.close().await;
}
