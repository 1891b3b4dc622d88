//! Many at once: clients that are slow, that have gone without a word, or that ask for much.
//!
//! Whoever behaves is served meanwhile.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use complement_tests_faults::{Client, Database, RECOVERY, Server, is_long, server::free_port};
use tokio::task::JoinSet;

/// How much memory the server may take, whatever is asked of it.
const MEMORY_KIB_MAX: u64 = 512 << 10;

struct Scene {
    database: Database,
    server: Server,
    port: u16,
    alice: Client,
    room_id: String,
}

impl Scene {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (database, port) = (Database::sqlite(), free_port());
        let server = Server::start(&database, port).await;
        let alice = Client::register(&server.base_url, "alice").await;
        let room_id = alice.create_room().await;
        Self { database, server, port, alice, room_id }
    }

    /// A connection on which so much of a request was said.
    fn say(&self, beginning: &str) -> TcpStream {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        connection.write_all(beginning.as_bytes()).expect("the server reads");
        connection
    }

    async fn close(self) {
        self.server.stop().await;
        Server::check(&self.database).await;
    }
}

/// Whether the other end has ended a connection.
fn is_over(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a connection can be set");
    let mut answer = [0; 4_096];
    loop {
        match connection.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_30_connections_whose_other_end_says_no_more_are_closed() {
    let scene = Scene::open().await;
    let token = scene.alice.token();
    let post = format!("POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    let beginnings = [
        // A head, a body, and a request whose answer nobody comes back from.
        "GET /_matrix/client/versions HTTP/1.1\r\nHos".to_owned(),
        format!("{post}Content-Length: 100\r\n\r\n{{"),
        format!(
            "GET /_matrix/client/v3/sync?timeout=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
    ];
    let mut gone: Vec<TcpStream> = beginnings.iter().map(|beginning| scene.say(beginning)).collect();
    // From this machine may come a proxy, to whom the server is more patient: three minutes between two requests.
    let patience = if is_long() { Duration::from_mins(5) } else { RECOVERY };
    let begun = Instant::now();
    let body = gone.swap_remove(1);
    let mut waiting = if is_long() { gone } else { Vec::new() };
    waiting.push(body);
    while !waiting.is_empty() {
        waiting.retain_mut(|connection| !is_over(connection));
        assert!(begun.elapsed() < patience, "{} connections are still open", waiting.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_31_slow_clients_keep_nobody_waiting() {
    let scene = Scene::open().await;
    let (alice, room_id) = (&scene.alice, &scene.room_id);
    let count = if is_long() { 5_000 } else { 300 };
    let mut slow: Vec<TcpStream> =
        (0..count).map(|_| scene.say("GET /_matrix/client/versions HTTP/1.1\r\nX-Slow: ")).collect();
    let bodies: Vec<String> = (0..30).map(|number| format!("message {number}")).collect();
    for body in &bodies {
        for connection in &mut slow {
            connection.write_all(b"x").expect("the server is patient with who says something");
        }
        assert!(alice.send(room_id, body, body).await.is_some());
    }
    alice.check_history(room_id, &bodies, &[]).await;
    assert!(!slow.iter_mut().all(is_over), "nobody was slow: the test tests nothing");
    drop(slow);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_33_memory_stays_below_a_ceiling_under_a_mixed_load() {
    const LARGE: usize = 50_000;
    let scene = Scene::open().await;
    let rounds = if is_long() { 200 } else { 3 };
    let mut load = JoinSet::new();
    for user in 0..16 {
        let client = Client::register(&scene.server.base_url, &format!("user{user}")).await;
        client.join(&scene.room_id).await;
        let room_id = scene.room_id.clone();
        load.spawn(async move {
            for round in 0..rounds {
                let body = format!("{user} {round} {}", "x".repeat(LARGE));
                assert!(client.send(&room_id, &format!("{round}"), &body).await.is_some());
                assert!(client.upload(vec![user; 8 << 20]).await.is_some_and(|status| status.is_success()));
                client.get("/_matrix/client/v3/sync?timeout=0").await;
                client.history(&room_id).await;
            }
        });
    }
    load.join_all().await;
    let peak = scene.server.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    assert_eq!(scene.alice.history(&scene.room_id).await.len(), 16 * rounds);
    scene.close().await;
}
