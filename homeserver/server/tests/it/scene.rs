//! Listeners in this process, and a client that speaks HTTP byte by byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Extension,
    http::StatusCode,
    routing::{get, post},
};
use client_api::ClientAddress;
use homeserver_server::{
    configuration::Network,
    doors::Doors,
    listen::{Limits, Listener},
    stopping::{self, Stop},
    tls::Certificate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// Long enough for anything that should happen at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Larger than all buffers of the system between two sockets.
pub(crate) const BIG: usize = 64 * 1024 * 1024;

/// A listener that serves.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) serving: JoinHandle<()>,
    /// Answers whoever asks for `/wait` or `/late`.
    pub(crate) wake: Arc<Notify>,
    /// Told when nobody waits for `/left` any more.
    pub(crate) left: Arc<Notify>,
}

/// Limits that tests can wait for.
pub(crate) fn impatient() -> Limits {
    let soon = Duration::from_millis(300);
    Limits {
        head_timeout: soon,
        // The tests come from this machine.
        proxy_head_timeout: soon,
        body_idle_timeout: soon,
        body_timeout: soon * 4,
        write_timeout: soon,
        idle_timeout: soon,
        handshake_timeout: soon,
        drain_timeout: soon,
        long_wait: soon / 6,
        ..Limits::default()
    }
}

impl Scene {
    pub(crate) async fn new(limits: Limits) -> Self {
        Self::with(limits, None, &[]).await
    }

    pub(crate) async fn with(limits: Limits, certificate: Option<Certificate>, trusted_proxies: &[&str]) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let wake = Arc::new(Notify::new());
        let trusted_proxies: Vec<Network> = trusted_proxies.iter().map(|text| text.parse().unwrap()).collect();
        let left = Arc::new(Notify::new());
        let doors = Doors::new(router(wake.clone(), left.clone()));
        let listener = Listener { name: "test", doors, certificate, trusted_proxies: trusted_proxies.into(), limits };
        let (stop, stopping) = stopping::channel();
        let serving = tokio::spawn(listener.serve(socket, stopping));
        Self { address, stop, serving, wake, left }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection on which `bytes` were written.
    pub(crate) async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// The answer to a whole request.
    pub(crate) async fn answer(&self, request: &str) -> String {
        read_all(&mut self.send(request).await).await
    }
}

/// Everything until the other end closes, or resets.
pub(crate) async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the connection should have been closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells when it is dropped.
struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn router(wake: Arc<Notify>, left: Arc<Notify>) -> Router {
    let late_wake = wake.clone();
    let late = async move |body: Body| {
        late_wake.notified().await;
        length(body).await
    };
    let wait = async move |_: Bytes| {
        wake.notified().await;
        "woken"
    };
    let never_left = async move || {
        let _leaving = Leaving(left);
        std::future::pending::<()>().await;
    };
    Router::new()
        .route("/", get("hello"))
        .route("/wait", get(wait.clone()).post(wait))
        .route("/late", post(late))
        .route("/left", get(never_left))
        .route("/never", get(std::future::pending::<()>))
        .route("/panic", get(async || -> &str { panic!("secret of the handler") }))
        .route("/address", get(async |Extension(ClientAddress(address)): Extension<ClientAddress>| address.to_string()))
        .route("/big", get(async || Bytes::from(vec![b'x'; BIG])))
        .route("/length", post(length))
}

async fn length(body: Body) -> (StatusCode, String) {
    match axum::body::to_bytes(body, 1024).await {
        Ok(bytes) => (StatusCode::OK, format!("length {}", bytes.len())),
        Err(_) => (StatusCode::BAD_REQUEST, "incomplete".to_owned()),
    }
}
