//! Many at once: clients that are slow, that have gone without a word, or that ask for much.
//!
//! Whoever behaves is served meanwhile.

use std::{
    io::{Cursor, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use complement_tests_faults::{Ceiling, Client, Database, RECOVERY, Server, is_long, server::free_port};
use image::{ImageFormat, Rgb, RgbImage};
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

/// How somebody is slow: with the head of a request, with its body, or with reading the answer.
const SLOW_BEGINNINGS: [&str; 2] = [
    "GET /_matrix/client/versions HTTP/1.1\r\nX-Slow: ",
    "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n",
];
/// How many ask for a large answer and do not read it; what the kernel holds of each takes megabytes.
const READERS: usize = 20;

/// Counted, not timed: every message is taken while as many others as there are keep the server waiting. How long that
/// takes, with them and without, is measured by `load slow-clients`: a ratio of times would fail where others work too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_31_slow_clients_keep_nobody_waiting() {
    let scene = Scene::open().await;
    let (alice, room_id) = (&scene.alice, &scene.room_id);
    let count = if is_long() { 5_000 } else { 300 };
    let large = "x".repeat(50_000);
    for number in 0..100 {
        assert!(alice.send(room_id, &format!("large {number}"), &large).await.is_some());
    }
    let token = alice.token();
    let read = format!(
        "GET /_matrix/client/v3/rooms/{room_id}/messages?dir=b&limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
         {token}\r\n\r\n"
    );
    let mut slow: Vec<TcpStream> = SLOW_BEGINNINGS.iter().cycle().take(count).map(|begin| scene.say(begin)).collect();
    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| scene.say(&read)).collect();
    let bodies: Vec<String> = (0..30).map(|number| format!("message {number}")).collect();
    for body in &bodies {
        // Where this takes long, the server may give some of them up in between.
        slow.retain_mut(|connection| connection.write_all(b"x").is_ok());
        assert!(alice.send(room_id, body, body).await.is_some());
    }
    let history = alice.history(room_id).await.into_iter().map(|(_, body)| body);
    assert_eq!(history.filter(|body| *body != large).collect::<Vec<_>>(), bodies);
    for (what, connections) in [("slow", &mut slow), ("reading", &mut readers)] {
        assert!(!connections.iter_mut().all(is_over), "nobody was {what}: the test tests nothing");
    }
    drop((slow, readers));
    scene.close().await;
}

/// An image that is small as a file and large as pixels.
fn image() -> Vec<u8> {
    let side = if is_long() { 7_000 } else { 2_000 };
    let mut file = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(side, side, Rgb([70, 130, 180]));
    image.write_to(&mut file, ImageFormat::Png).expect("an image can be written to memory");
    file.into_inner()
}

/// What one of many does, round by round: long messages, large files, images and thumbnails of them, a log-in with a
/// password that takes memory to check, the beginning of everything, and all of the history.
async fn do_much(client: Client, name: String, room_id: String, image: Vec<u8>, rounds: usize) {
    const LARGE: usize = 50_000;
    for round in 0..rounds {
        let body = format!("{name} {round} {}", "x".repeat(LARGE));
        assert!(client.send(&room_id, &format!("{round}"), &body).await.is_some());
        assert!(client.upload(vec![1; 8 << 20]).await.is_some_and(|status| status.is_success()));
        let path = client.upload_image(image.clone()).await;
        // Where many want one at the same time, some are told to come back.
        let thumbnail = client.status(&format!("{path}?width=320&height=240")).await;
        assert!(thumbnail.is_some(), "the server is gone");
        client.log_in_again(&name).await;
        client.get("/_matrix/client/v3/sync?timeout=0").await;
        client.history(&room_id).await;
    }
}

/// Where the kernel can be told, it kills a server that takes more. Elsewhere its peak is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_33_memory_stays_below_a_ceiling_under_a_mixed_load() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (database, port) = (Database::sqlite(), free_port());
    let settings = [("NUDGE_ACCOUNTS__PASSWORD_HASHING", "strong")];
    let ceiling = Ceiling::of(MEMORY_KIB_MAX << 10);
    let server = if let Some(ceiling) = &ceiling {
        Server::start_below(ceiling, &database, port, &settings).await
    } else {
        eprintln!("no ceiling: there are no control groups here that limit memory, or they cannot be made");
        Server::start_with(&database, port, &settings).await
    };
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    // Each reads the whole history in each round.
    let rounds = if is_long() { 30 } else { 3 };
    let (image, mut load) = (image(), JoinSet::new());
    for user in 0..16 {
        let name = format!("user{user}");
        let client = Client::register(&server.base_url, &name).await;
        client.join(&room_id).await;
        load.spawn(do_much(client, name, room_id.clone(), image.clone(), rounds));
    }
    load.join_all().await;
    let peak = server.memory_peak_kib();
    println!("at most {peak} KiB");
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
    assert_eq!(ceiling.as_ref().map_or(0, Ceiling::killed), 0, "the kernel killed it");
    assert_eq!(alice.history(&room_id).await.len(), 16 * rounds);
    server.stop().await;
    Server::check(&database).await;
}
