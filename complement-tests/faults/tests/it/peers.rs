//! Others whom the server calls are gone without a word: their connections stay, and nothing comes any more.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use complement_tests_faults::{Client, Database, Proxy, RECOVERY, Server, is_long, server::free_port};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Waits for something to become true while a connection that leads nowhere is being given up.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_true().await {
        assert!(begun.elapsed() < RECOVERY, "after two minutes still not true: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Two servers that know each other; the way from ours to the other leads along a wire.
struct Pair {
    ours: (Server, Database),
    theirs: (Server, Database),
    wire: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (our_port, their_port) = (free_port(), free_port());
        let wire = Proxy::start(&format!("127.0.0.1:{their_port}")).await;
        let ours = start("localhost".to_owned(), our_port, our_port).await;
        let theirs = start(format!("127.0.0.1:{}", wire.port), their_port, our_port).await;
        Self { ours, theirs, wire }
    }

    fn connections(&self) -> usize {
        self.ours.0.connections_to(self.wire.port)
    }
}

/// A server that answers others at a port, and finds `localhost` at another.
async fn start(name: String, port: u16, port_of_localhost: u16) -> (Server, Database) {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../homeserver/server/tests/it/certificates");
    let file = |name| certificates.join(name).to_str().expect("this folder has a name of letters").to_owned();
    let database = Database::of(name);
    let settings = [
        ("NUDGE_FEDERATION__LISTEN", format!("127.0.0.1:{port}")),
        ("NUDGE_FEDERATION__CERTIFICATE_FILE", file("localhost.pem")),
        ("NUDGE_FEDERATION__PRIVATE_KEY_FILE", file("localhost.key.pem")),
        ("NUDGE_FEDERATION__EXTRA_CERTIFICATE_AUTHORITIES", file("authority.pem")),
        ("NUDGE_FEDERATION__OVERRIDES", format!("localhost=127.0.0.1:{port_of_localhost}")),
        ("NUDGE_FEDERATION__ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    (Server::start_with(&database, free_port(), &settings).await, database)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_30_a_server_that_is_gone_without_a_word_is_called_anew() {
    let pair = Pair::start().await;
    let alice = Client::register(&pair.ours.0.base_url, "alice").await;
    let bob = Client::register(&pair.theirs.0.base_url, "bob").await;
    let created = json!({ "preset": "public_chat", "room_alias_name": "tea" });
    let theirs = bob.post("/_matrix/client/v3/createRoom", &created).await;
    let alias = format!("%23tea%3A{}", pair.theirs.1.server_name().replace(':', "%3A"));
    let resolve = format!("/_matrix/client/v3/directory/room/{alias}");
    let since = bob.now().await;
    let room_id = alice.create_room().await;
    bob.post(&format!("/_matrix/client/v3/join/{room_id}?via=localhost"), &json!({})).await;
    alice.send(&room_id, "one", "one").await.unwrap();
    bob.wait_for_messages(&since, &room_id, 1).await;
    until("a connection is kept for what comes next", async || pair.connections() > 0).await;

    // Whoever asks over it waits, for a quarter of a minute.
    pair.wire.strand();
    assert_ne!(
        alice.status(&resolve).await,
        Some(reqwest::StatusCode::OK),
        "it was not stranded: the test tests nothing"
    );
    assert_eq!(alice.get(&resolve).await["room_id"], theirs["room_id"], "the next one asks over a new connection");
    alice.send(&room_id, "two", "two").await.unwrap();
    bob.wait_for_messages(&since, &room_id, 2).await;
    if is_long() {
        // A transaction is waited for longer, and then sent again. Nobody waits for that but who is to hear of it.
        pair.wire.strand();
        alice.send(&room_id, "three", "three").await.unwrap();
        bob.wait_for_messages(&since, &room_id, 3).await;
    }
    bob.check_history(&room_id, &["one", "two", "three"].map(str::to_owned)[..if is_long() { 3 } else { 2 }], &[])
        .await;
    // What was stranded is not kept: of this conversation, one connection is left for what comes next, if any.
    until("what leads nowhere is closed", async || pair.connections() <= 1).await;
    for (server, database) in [pair.ours, pair.theirs] {
        server.stop().await;
        Server::check(&database).await;
    }
}

/// The bodies of the messages that a push gateway was told of.
type Told = Arc<Mutex<Vec<String>>>;

/// A push gateway that takes whatever it is told.
async fn gateway() -> (u16, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, told) = (listener.local_addr().unwrap().port(), Told::default());
    let telling = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(be_told(BufReader::new(stream), Arc::clone(&telling)));
        }
    });
    (port, told)
}

/// Takes one request after the other on a connection, until it ends.
async fn be_told(mut stream: BufReader<TcpStream>, told: Told) -> Option<()> {
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
            if line == "\r\n" {
                break;
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let body: Value = serde_json::from_slice(&body).ok()?;
        if let Some(text) = body["notification"]["content"]["body"].as_str() {
            told.lock().unwrap().push(text.to_owned());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.ok()?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_30_a_push_gateway_that_is_gone_without_a_word_is_called_anew() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (port, told) = gateway().await;
    let wire = Proxy::start(&format!("127.0.0.1:{port}")).await;
    let database = Database::sqlite();
    let settings = [("NUDGE_PUSH__ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8")];
    let server = Server::start_with(&database, free_port(), &settings).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let bob = Client::register(&server.base_url, "bob").await;
    let room_id = alice.create_room().await;
    bob.join(&room_id).await;
    let pusher = json!({
        "app_display_name": "Test", "app_id": "org.example.test", "device_display_name": "phone", "kind": "http",
        "lang": "en", "pushkey": "key",
        "data": { "url": format!("http://127.0.0.1:{}/_matrix/push/v1/notify", wire.port) },
    });
    bob.post("/_matrix/client/v3/pushers/set", &pusher).await;
    let is_told = async |body: &str| told.lock().unwrap().iter().any(|told| told == body);
    alice.send(&room_id, "one", "one").await.unwrap();
    until("it is told of the first", async || is_told("one").await).await;
    wire.strand();
    alice.send(&room_id, "two", "two").await.unwrap();
    until("it is told of the second, over a new connection", async || is_told("two").await).await;
    until("what leads nowhere is closed", async || server.connections_to(wire.port) <= 1).await;
    server.stop().await;
    Server::check(&database).await;
}
