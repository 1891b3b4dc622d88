//! `nudge room check`, with another server on the network.

use std::{
    net::SocketAddr,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use fake_homeserver::{FakeHomeserver, Network, Room, RoomSettings};
use homeserver_server::{
    doors::Doors,
    listen::{Limits, Listener},
    stopping::{self, Stop},
    tls::Certificate,
    world,
};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ruma::{OwnedRoomId, server_name};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::process::{Nudge, nudge, register};

/// Another homeserver, which speaks TLS on this machine, and the file with the authority that speaks for it.
struct Elsewhere {
    fake: FakeHomeserver,
    network: Network,
    authority: String,
    stop: Stop,
}

impl Elsewhere {
    async fn new() -> Self {
        let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate =
            Certificate::load(certificates.join("localhost.pem"), certificates.join("localhost.key.pem")).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let network = Network::new(world::system().clock);
        let fake = network.add_fake(&socket.local_addr().unwrap().to_string());
        let (asked, name) = (network.clone(), fake.name().to_owned());
        let answer = Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let request = http::Request::from_parts(parts, body.collect().await.unwrap().to_bytes());
            asked.deliver(&name, request).await.unwrap().map(Body::from)
        });
        let (certificate, limits) = (Some(certificate), Limits::default());
        let listener =
            Listener { name: "test", doors: Doors::new(answer), certificate, trusted_proxies: [].into(), limits };
        let (stop, stopping) = stopping::channel();
        tokio::spawn(listener.serve(socket, stopping));
        let authority = certificates.join("authority.pem").to_str().unwrap().to_owned();
        Self { fake, network, authority, stop }
    }

    /// From now on it finds `localhost` there.
    fn knows(&self, address: SocketAddr) {
        let forward = async move |mut request: Request| -> Response {
            request.headers_mut().insert("host", "localhost".parse().unwrap());
            let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut sender, connection) = http1::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().map(Body::new)
        };
        self.network.add_router(server_name!("localhost"), Router::new().fallback(forward));
    }

    /// How a server finds this one, and trusts it.
    fn variables(&self) -> [(&'static str, &str); 2] {
        [
            ("NUDGE_FEDERATION__EXTRA_CERTIFICATE_AUTHORITIES", &self.authority),
            ("NUDGE_FEDERATION__ALLOW_PRIVATE_ADDRESSES", "127.0.0.1"),
        ]
    }
}

/// A topic of which our server is never told, and a message by which it could be found out.
async fn untold_topic(elsewhere: &Elsewhere, room: &Room) {
    let (fake, rita) = (&elsewhere.fake, elsewhere.fake.user("rita"));
    let before = room.extremities();
    room.send_state(fake, &rita, "m.room.topic", "", json!({ "topic": "untold" }));
    let content = json!({ "msgtype": "m.text", "body": "shared" });
    let draft = room.draft_after(fake, &before, &room.state(), (&rita, "m.room.message", None, content));
    let shared = fake.build(draft, &room.rules);
    room.keep(shared.clone(), room.state());
    let answer = fake.send_pdus(server_name!("localhost"), &[&shared]).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
}

fn shown(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn topic(server: &Nudge, token: &str, room_id: &OwnedRoomId) -> (u16, Value) {
    server.get(&format!("/_matrix/client/v3/rooms/{room_id}/state/m.room.topic"), Some(token))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_not_the_same_elsewhere_is_shown_and_set_right() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), Elsewhere::new().await);
    let variables = elsewhere.variables();
    let room = Room::create(&elsewhere.fake, &elsewhere.fake.user("rita"), &RoomSettings::default());
    let check = |arguments: &[&str]| {
        let arguments = [&["room", "check", room.id.as_str()], arguments].concat();
        shown(&nudge(&directory, &arguments, &variables, ""))
    };
    let server = Nudge::start(&directory, &[], &variables);
    elsewhere.knows(server.client);
    let token = register(&server, "alice", "curiouser and curiouser");
    let (name, room_id) = (elsewhere.fake.name(), &room.id);
    let path = format!("/_matrix/client/v3/join/{room_id}?via={name}&server_name={name}");
    let (status, joined) = server.post(&path, Some(&token), &json!({}));
    assert_eq!(status, 200, "{joined}");
    let (code, out, err) = check(&[]);
    assert!(code == Some(0) && out.starts_with(&format!("{name}: the same ")), "{out}{err}");

    untold_topic(&elsewhere, &room).await;
    assert_eq!(topic(&server, &token, &room.id).0, 404);
    let (code, out, err) = check(&[]);
    let told = room.state_event("m.room.topic", "").unwrap().event_id.clone();
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with(&format!("{name}: 1 difference before $")), "{out}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words, ["m.room.topic", "\"\"", "-", told.as_str()], "{out}");
    assert!(lines[3].contains("--repair"), "{out}");
    let (code, _, err) = check(&["--repair"]);
    assert!(code == Some(1) && err.contains("in use by another nudge"), "{err}");

    assert!(server.terminate().success());
    let (code, out, err) = check(&["--repair"]);
    assert!(code == Some(0) && out.contains("resolved anew"), "{out}{err}");
    let server = Nudge::start(&directory, &[], &variables);
    elsewhere.knows(server.client);
    assert_eq!(topic(&server, &token, &room.id), (200, json!({ "topic": "untold" })));
    let started = Instant::now();
    while !elsewhere.fake.received_pdus().iter().any(|pdu| pdu["type"] == "org.matrix.dummy_event") {
        assert!(started.elapsed() < Duration::from_mins(2), "the other server never heard of it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, out, err) = check(&[]);
    assert!(code == Some(0) && out.starts_with(&format!("{name}: the same ")), "{out}{err}");
    assert!(server.terminate().success());

    elsewhere.stop.now();
    let (code, out, err) = check(&[]);
    assert!(code == Some(1) && out.contains("not compared: ") && err.contains("could be asked"), "{out}{err}");
    let (code, _, err) = shown(&nudge(&directory, &["room", "check", "no room"], &variables, ""));
    assert!(code == Some(1) && err.contains("is no room id"), "{err}");
}
