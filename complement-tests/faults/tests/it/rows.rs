//! A row of the database cannot be read: that is one item's loss, and nobody else's.

use complement_tests_faults::{Client, Database, Server, server::free_port};
use sqlx::{Connection as _, SqliteConnection};

/// Changes a stopped server's database behind its back.
async fn spoil(database: &Database, sql: &'static str) {
    let mut connection = SqliteConnection::connect(&database.url()).await.unwrap();
    let done = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    assert!(done.rows_affected() > 0, "nothing was spoilt: the test tests nothing");
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_11_an_event_that_cannot_be_read_is_left_out_and_the_rest_goes_on() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let (room_id, other) = (alice.create_room().await, alice.create_room().await);
    let since = alice.now().await;
    for body in ["one", "two", "three"] {
        alice.send(&room_id, body, body).await.unwrap();
        alice.send(&other, body, body).await.unwrap();
    }
    server.stop().await;
    spoil(
        &database,
        "UPDATE events SET json = '{' WHERE json LIKE '%\"two\"%' AND room_nid = (SELECT MIN(room_nid) FROM events)",
    )
    .await;
    let server = Server::start(&database, port).await;
    let mut told: Vec<Vec<String>> = Vec::new();
    for (_, messages) in alice.messages_since(&since).await {
        told.push(messages.into_iter().map(|(_, body)| body).collect());
    }
    told.sort();
    assert_eq!(told, [vec!["one", "three"], vec!["one", "two", "three"]]);
    // Reading on beyond it, writing on after it, and beginning anew.
    for room_id in [&room_id, &other] {
        let history = alice.history(room_id).await.len();
        alice.send(room_id, "four", "four").await.unwrap();
        assert_eq!(alice.history(room_id).await.len(), history + 1);
    }
    alice.get("/_matrix/client/v3/sync?timeout=0").await;
    assert!(database.log().contains("cannot be read"), "whoever runs the server is told");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_11_an_entry_of_the_log_that_cannot_be_read_wakes_nobody_and_stops_nobody() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    alice.send(&room_id, "one", "one").await.unwrap();
    server.stop().await;
    spoil(&database, "UPDATE log SET kind = 99 WHERE position = (SELECT MAX(position) FROM log)").await;
    let server = Server::start(&database, port).await;
    let since = alice.now().await;
    alice.send(&room_id, "two", "two").await.unwrap();
    assert_eq!(alice.wait_for_messages(&since, &room_id, 1).await, ["two"]);
    let bob = Client::register(&server.base_url, "bob").await;
    bob.join(&room_id).await;
    server.stop().await;
}
