//! The database lets the server down: it is away, slow, or silent, loses an answer, or has somebody else in the way.
//!
//! Whoever asks meanwhile is told to come back, nothing that was acknowledged is lost, and nobody has to restart anything.

use std::time::{Duration, Instant};

use complement_tests_faults::{Client, Database, Proxy, RECOVERY, Server, Weather, is_long, server::free_port};
use reqwest::StatusCode;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tokio::task::JoinSet;

const SENDERS: usize = 4;
/// How long another one stands in the way.
const IN_THE_WAY: Duration = Duration::from_secs(2);

/// A server on PostgreSQL, and the wire between the two.
struct Scene {
    database: Database,
    proxy: Proxy,
    server: Server,
    alice: Client,
    room_id: String,
}

impl Scene {
    /// `None` where there is no PostgreSQL.
    async fn open(name: &str) -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Some(mut database) = Database::postgres(name).await else {
            eprintln!("skipped: NUDGE_TEST_POSTGRES_URL is not set");
            return None;
        };
        let proxy = Proxy::start(database.host()).await;
        database.reach_by(proxy.port);
        let server = Server::start(&database, free_port()).await;
        let alice = Client::register(&server.base_url, "alice").await;
        let room_id = alice.create_room().await;
        Some(Self { database, proxy, server, alice, room_id })
    }

    async fn close(self) {
        self.proxy.turn(Weather::Clear);
        self.server.stop().await;
        Server::check(&self.database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_06_a_commit_whose_answer_is_lost_is_done_once_and_told() {
    let Some(scene) = Scene::open("answer_lost").await else { return };
    let Scene { proxy, alice, room_id, .. } = &scene;
    let rounds = if is_long() { 200 } else { 10 };
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let since = alice.now().await;
        proxy.turn(if round % 2 == 0 { Weather::AnswerLost } else { Weather::CommitLost });
        let body = format!("message {round}");
        let event_id = alice.send_until_acknowledged(room_id, &body, &body).await;
        assert_eq!(proxy.lost(), round + 1, "nothing was lost: the test tests nothing");
        // Nothing else is written: what was acknowledged is told without it.
        assert_eq!(alice.wait_for_messages(&since, room_id, 1).await, std::slice::from_ref(&body));
        assert_eq!(alice.send(room_id, &body, &body).await, Some(event_id), "the same transaction is the same event");
        acknowledged.push(body);
    }
    alice.check_history(room_id, &acknowledged, &[]).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_06_a_commit_that_nobody_can_ask_about_is_told_when_the_database_is_back() {
    let Some(scene) = Scene::open("unsettled").await else { return };
    let Scene { proxy, alice, room_id, .. } = &scene;
    let since = alice.now().await;
    proxy.turn(Weather::AnswerLost);
    let sending = tokio::spawn({
        let (alice, room_id) = (alice.clone(), room_id.clone());
        async move { alice.try_to_send(&room_id, "one", "one").await }
    });
    proxy.wait_until_lost(1).await;
    proxy.turn(Weather::Away);
    let status = sending.await.unwrap();
    proxy.turn(Weather::Clear);
    // The server may have been quick enough to find out.
    assert!(matches!(status, Some(StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE)), "{status:?}");
    assert_eq!(alice.wait_for_messages(&since, room_id, 1).await, ["one"]);
    let event_id = alice.send_until_acknowledged(room_id, "one", "one").await;
    assert_eq!(alice.history(room_id).await, [(event_id, "one".to_owned())]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_07_while_the_database_is_away_clients_are_told_to_come_back() {
    let Some(mut scene) = Scene::open("away").await else { return };
    let bob = Client::register(&scene.server.base_url, "bob").await;
    // A server that does not remember who has which token.
    scene.server.stop().await;
    scene.server = Server::start(&scene.database, free_port()).await;
    scene.alice = scene.alice.at(&scene.server.base_url);
    let Scene { proxy, alice, room_id, server, .. } = &scene;
    let bob = bob.at(&server.base_url);
    alice.send(room_id, "before", "before").await.unwrap();
    proxy.turn(Weather::Away);
    let begun = Instant::now();
    let away = if is_long() { Duration::from_secs(30) } else { Duration::ZERO };
    let stranger = Client::stranger(&server.base_url);
    loop {
        let (sent, whoami, ready) = tokio::join!(
            alice.refusal(room_id, "during", "during"),
            bob.status("/_matrix/client/v3/account/whoami"),
            stranger.status("/ready"),
        );
        assert!(matches!(sent, Some((StatusCode::SERVICE_UNAVAILABLE, Some(1..)))), "{sent:?}");
        // Nobody knows whether there is such a token: who is told that there is none logs out, and loses all keys.
        assert_eq!(whoami, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(ready, Some(StatusCode::SERVICE_UNAVAILABLE));
        for path in ["/_matrix/client/versions", "/health"] {
            assert_eq!(stranger.status(path).await, Some(StatusCode::OK), "{path}");
        }
        if begun.elapsed() >= away {
            break;
        }
    }
    proxy.turn(Weather::Clear);
    alice.send_until_acknowledged(room_id, "during", "during").await;
    assert_eq!(stranger.status("/ready").await, Some(StatusCode::OK));
    assert_eq!(bob.status("/_matrix/client/v3/account/whoami").await, Some(StatusCode::OK));
    alice.check_history(room_id, &["before".to_owned(), "during".to_owned()], &[]).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_07_connections_that_end_while_many_write_cost_no_message() {
    let Some(scene) = Scene::open("restarted").await else { return };
    let Scene { proxy, alice, room_id, server, .. } = &scene;
    let (rounds, each) = if is_long() { (100, 50) } else { (8, 15) };
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let client = Client::register(&server.base_url, &format!("sender{sender}")).await;
        client.join(room_id).await;
        let room_id = room_id.clone();
        senders.spawn(async move {
            let bodies: Vec<String> = (0..each).map(|number| format!("{sender} says {number}")).collect();
            for body in &bodies {
                client.send_until_acknowledged(&room_id, body, body).await;
            }
            bodies
        });
    }
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(40 + 17 * (round % 5))).await;
        proxy.cut();
    }
    let sent = senders.join_all().await;
    let history: Vec<String> = alice.history(room_id).await.into_iter().map(|(_, body)| body).collect();
    assert_eq!(history.len(), SENDERS * each, "each once");
    for bodies in sent {
        let own: Vec<&String> = history.iter().filter(|body| bodies.contains(body)).collect();
        assert_eq!(own, bodies.iter().collect::<Vec<_>>(), "each sender's in order");
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_08_a_slow_database_makes_a_slow_server_and_no_wrong_one() {
    let Some(scene) = Scene::open("slow").await else { return };
    let Scene { proxy, alice, room_id, server, .. } = &scene;
    proxy.turn(Weather::Slow(Duration::from_millis(if is_long() { 500 } else { 50 })));
    let bodies: Vec<String> = (0..5).map(|number| format!("message {number}")).collect();
    for body in &bodies {
        alice.send_until_acknowledged(room_id, body, body).await;
    }
    let stranger = Client::stranger(&server.base_url);
    for path in ["/_matrix/client/versions", "/health", "/ready"] {
        assert_eq!(stranger.status(path).await, Some(StatusCode::OK), "{path}");
    }
    proxy.turn(Weather::Clear);
    alice.check_history(room_id, &bodies, &[]).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_08_a_silent_database_is_not_waited_for_without_end() {
    let Some(scene) = Scene::open("silent").await else { return };
    let Scene { proxy, alice, room_id, server, .. } = &scene;
    alice.send(room_id, "before", "before").await.unwrap();
    proxy.turn(Weather::Silent);
    let mut sending = JoinSet::new();
    for number in 0..50 {
        let (alice, room_id) = (alice.clone(), room_id.clone());
        sending.spawn(async move { alice.refusal(&room_id, "during", &format!("during {number}")).await });
    }
    // Fifty wait for the database; whoever needs none does not wait with them.
    let stranger = Client::stranger(&server.base_url);
    for path in ["/_matrix/client/versions", "/health"] {
        assert_eq!(stranger.status(path).await, Some(StatusCode::OK), "{path}");
    }
    assert_eq!(stranger.status("/ready").await, Some(StatusCode::SERVICE_UNAVAILABLE));
    for refusal in sending.join_all().await {
        assert!(matches!(refusal, Some((StatusCode::SERVICE_UNAVAILABLE, Some(1..)))), "{refusal:?}");
    }
    proxy.turn(Weather::Clear);
    alice.send_until_acknowledged(room_id, "after", "after").await;
    let uncertain: Vec<String> = (0..50).map(|number| format!("during {number}")).collect();
    alice.check_history(room_id, &["before".to_owned(), "after".to_owned()], &uncertain).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_30_connections_to_a_database_that_is_gone_without_a_word_are_replaced() {
    let Some(scene) = Scene::open("stranded").await else { return };
    let Scene { proxy, alice, room_id, .. } = &scene;
    let mut acknowledged = Vec::new();
    for round in 0..if is_long() { 10 } else { 1 } {
        // Long enough for the server to ask whether a connection still lives.
        tokio::time::sleep(Duration::from_secs(3)).await;
        proxy.strand();
        let body = format!("message {round}");
        alice.send_until_acknowledged(room_id, &body, &body).await;
        acknowledged.push(body);
    }
    alice.check_history(room_id, &acknowledged, &[]).await;
    scene.close().await;
}

/// Waits until the server waits for a lock.
async fn wait_for_waiting(other: &mut PgConnection) {
    const WAITING: &str = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'nudge' AND wait_event_type = 'Lock')";
    let begun = Instant::now();
    while !sqlx::query_scalar::<_, bool>(WAITING).fetch_one(&mut *other).await.unwrap() {
        assert!(begun.elapsed() < RECOVERY, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_08_a_locked_table_is_waited_for_a_while() {
    let Some(scene) = Scene::open("locked").await else { return };
    let Scene { database, alice, room_id, server, .. } = &scene;
    let mut other = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let sending = tokio::spawn({
        let (alice, room_id) = (alice.clone(), room_id.clone());
        async move { alice.refusal(&room_id, "during", "during").await }
    });
    wait_for_waiting(&mut other).await;
    assert_eq!(Client::stranger(&server.base_url).status("/ready").await, Some(StatusCode::OK));
    if is_long() {
        // Longer than anybody waits.
        let refusal = sending.await.unwrap();
        assert!(matches!(refusal, Some((StatusCode::SERVICE_UNAVAILABLE, Some(1..)))), "{refusal:?}");
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    } else {
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        let answer = sending.await.unwrap();
        assert!(matches!(answer, Some((StatusCode::OK, None))), "{answer:?}");
    }
    alice.send_until_acknowledged(room_id, "during", "during").await;
    alice.check_history(room_id, &["during".to_owned()], &[]).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_09_a_deadlock_is_nothing_that_a_client_hears_of() {
    let Some(scene) = Scene::open("deadlock").await else { return };
    let Scene { database, alice, room_id, proxy, .. } = &scene;
    let mut other = database.connect().await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut other).await.unwrap();
    // So that it is the server whose transaction is ended, however slowly the other one comes along.
    let slowly = AssertSqlSafe(format!("ALTER DATABASE {name} SET deadlock_timeout TO '5s'"));
    sqlx::raw_sql(slowly).execute(&mut other).await.unwrap();
    proxy.cut();
    other = database.connect().await;
    sqlx::raw_sql("SET deadlock_timeout TO '5min'").execute(&mut other).await.unwrap();
    alice.send_until_acknowledged(room_id, "before", "before").await;
    sqlx::raw_sql("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let sending = tokio::spawn({
        let (alice, room_id) = (alice.clone(), room_id.clone());
        async move { alice.try_to_send(&room_id, "during", "during").await }
    });
    wait_for_waiting(&mut other).await;
    // The server holds this row and waits for the table.
    sqlx::raw_sql("UPDATE log_head SET position = position").execute(&mut other).await.unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(sending.await.unwrap(), Some(StatusCode::OK));
    alice.check_history(room_id, &["before".to_owned(), "during".to_owned()], &[]).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_09_a_file_that_somebody_else_writes_to_is_waited_for() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = Database::sqlite();
    let server = Server::start(&database, free_port()).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    let mut acknowledged = Vec::new();
    for round in 0..if is_long() { 20 } else { 1 } {
        let mut other = SqliteConnection::connect(&database.url()).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        let body = format!("message {round}");
        let sending = tokio::spawn({
            let (alice, room_id, body) = (alice.clone(), room_id.clone(), body.clone());
            async move { alice.try_to_send(&room_id, &body, &body).await }
        });
        tokio::time::sleep(IN_THE_WAY).await;
        assert!(!sending.is_finished(), "nobody was in the way: the test tests nothing");
        // Reading goes on meanwhile.
        alice.check_history(&room_id, &acknowledged, &[]).await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        assert_eq!(sending.await.unwrap(), Some(StatusCode::OK));
        acknowledged.push(body);
    }
    alice.check_history(&room_id, &acknowledged, &[]).await;
    server.stop().await;
    Server::check(&database).await;
}
