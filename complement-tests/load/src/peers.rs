//! Other homeservers on this machine, made of cardboard, with a room of many members.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use fake_homeserver::{FakeHomeserver, Network, Room, RoomSettings, WallClock};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// How many servers there are. The members are spread over them.
pub(crate) const SERVERS: usize = 10;

/// The servers, which answer until this is dropped.
pub(crate) struct Peers {
    /// The room that all of them are in.
    pub(crate) room_id: String,
    /// The server that lets others into it.
    pub(crate) host: String,
    /// How many members it has before anybody else comes.
    pub(crate) members: usize,
    _listeners: JoinSet<()>,
}

impl Peers {
    /// With a public room of so many members.
    pub(crate) async fn with_room(members: usize) -> Self {
        let (network, acceptor) = (Network::new(Arc::new(WallClock)), acceptor());
        let (mut servers, mut listeners) = (Vec::with_capacity(SERVERS), JoinSet::new());
        for _ in 0..SERVERS {
            let socket = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
            // Its address is its name, so that it is found without asking anybody.
            let server = network.add_fake(&socket.local_addr().expect("a bound socket has an address").to_string());
            // What is said in the room is taken and forgotten: keeping it costs more the more members there are.
            server.on("/_matrix/federation/v1/send/", |_| fake_homeserver::json(200, &json!({ "pdus": {} })));
            listeners.spawn(listen(socket, acceptor.clone(), server.clone()));
            servers.push(server);
        }
        let room = room_of(&servers, members);
        let (room_id, host) = (room.id.to_string(), servers[0].name().to_string());
        Self { room_id, host, members, _listeners: listeners }
    }
}

/// What vouches for the certificate of the servers.
pub(crate) fn authority() -> PathBuf {
    certificates().join("authority.pem")
}

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../homeserver/server/tests/it/certificates")
}

/// A room of the first server, which leaves members out of its answer to those who join and ask for that.
fn room_of(servers: &[FakeHomeserver], members: usize) -> Room {
    let host = &servers[0];
    let creator = host.user("creator");
    let room = Room::create(host, &creator, &RoomSettings::default());
    for (first, server) in servers.iter().enumerate() {
        // The creator is the one with the number 0.
        let numbers = (first..members).step_by(SERVERS).filter(|number| *number > 0);
        room.let_in(server, numbers.map(|number| server.user(&format!("u{number}"))));
    }
    room.send_message(host, &creator, "welcome");
    host.omit_members();
    room
}

fn acceptor() -> TlsAcceptor {
    let there = "the certificate is part of the repository";
    let certificate = CertificateDer::from_pem_file(certificates().join("localhost.pem")).expect(there);
    let key = PrivateKeyDer::from_pem_file(certificates().join("localhost.key.pem")).expect(there);
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("the key is that of the certificate")))
}

async fn listen(socket: TcpListener, acceptor: TlsAcceptor, server: FakeHomeserver) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        connections.spawn(serve(stream, acceptor.clone(), server.clone()));
    }
}

/// Until the other end goes, for whatever reason.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, server: FakeHomeserver) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| answer(&server, request));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(server: &FakeHomeserver, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    // A body that breaks off is answered as if there were none; nobody waits for that answer.
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    Ok(server.answer(&Request::from_parts(head, body)).map(Full::new))
}
