//! The client against a server on this machine that does what servers should not do.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{TryStreamExt, future::BoxFuture};
use http::{Method, StatusCode};
use outbound::{
    CallLimits, Egress, EgressOptions, HttpTransport, Network, Transport, TransportError,
    egress::{
        Endpoint, Route, SystemNames,
        names::{Names, Service},
    },
};
use ruma::{OwnedServerName, ServerName, server_name};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use crate::support::{here, world};

/// An authority whose key nobody has any more, and a certificate by it for `server.test`, `delegated.test`,
/// `127.0.0.1` and `::1`.
const AUTHORITY: &[u8] = include_bytes!("egress/ca.pem");
const CERTIFICATE: &[u8] = include_bytes!("egress/server.pem");
const CERTIFICATE_KEY: &[u8] = include_bytes!("egress/server.key");

const LIMITS: CallLimits = CallLimits { body_max_bytes: 1_000, deadline: Duration::from_secs(20) };

/// Names as the test says.
#[derive(Default)]
struct Table {
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    services: HashMap<&'static str, Vec<Service>>,
}

impl Names for Table {
    fn addresses<'a>(&'a self, hostname: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move { self.addresses.get(hostname).cloned().ok_or_else(|| "no such name".to_owned()) })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        Box::pin(async move { Ok(self.services.get(name).cloned().unwrap_or_default()) })
    }
}

/// A server that reads a request and then does as it was told.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start<F>(answer: impl Fn(String, TlsStream<TcpStream>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        let (acceptor, answer) = (acceptor(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answer, requests) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&requests));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some(request) = read_request(&mut stream).await else { return };
                    requests.lock().unwrap().push(request.clone());
                    answer(request, stream).await;
                });
            }
        });
        server
    }

    /// Answers every request the same.
    async fn saying(answer: impl Into<String>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |_, mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                stream.write_all(answer.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        })
        .await
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn route(&self, name: &str) -> Route {
        let endpoint = Endpoint::Host { name: name.to_owned(), port: self.port() };
        Route { host: name.to_owned(), certificate_name: name.to_owned(), endpoints: vec![endpoint] }
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_slice(CERTIFICATE_KEY).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn read_request(stream: &mut TlsStream<TcpStream>) -> Option<String> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        request.push(byte);
    }
    String::from_utf8(request).ok()
}

fn loopback() -> Vec<Network> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

fn options(allow: Vec<Network>) -> EgressOptions {
    EgressOptions {
        extra_root_certificates_pem: vec![AUTHORITY.to_vec()],
        allow_private_addresses: allow.clone(),
        allow_private_pages: allow,
        user_agent: "test".to_owned(),
        ..EgressOptions::default()
    }
}

fn names() -> Table {
    let local = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    Table {
        addresses: HashMap::from([
            ("server.test", local.clone()),
            ("other.test", local.clone()),
            ("target.test", local),
        ]),
        services: HashMap::new(),
    }
}

fn egress(allow: Vec<Network>) -> Egress {
    Egress::new(options(allow), Arc::new(names())).unwrap()
}

fn request(target: &str) -> http::Request<Bytes> {
    http::Request::builder().method(Method::GET).uri(target).header("x-test", "1").body(Bytes::new()).unwrap()
}

async fn send(server: &Server) -> Result<http::Response<Bytes>, TransportError> {
    egress(loopback()).send(&server.route("server.test"), request("/x"), LIMITS).await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_is_read() {
    let server = Server::saying(ok("hello")).await;
    let answer = send(&server).await.unwrap();
    assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"hello"[..]));
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
    for line in ["host: server.test\r\n", "user-agent: test\r\n", "x-test: 1\r\n"] {
        assert!(request.to_ascii_lowercase().contains(line), "{request}");
    }
    assert!(!request.to_ascii_lowercase().contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn the_target_goes_out_as_it_was_signed() {
    let server = Server::saying(ok("")).await;
    for target in ["/_matrix/%21a%2Fb%3Ac/..%2F/%7e?x=%20&y=%22%7c&z=%C3%A9", "/a//b/?", "/a?", "/"] {
        egress(loopback()).send(&server.route("server.test"), request(target), LIMITS).await.unwrap();
        let request = server.requests().pop().unwrap();
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{request}");
    }
    for target in ["/a?x='", "/a/../b", "/a/%2e%2e/b", "/a/./b"] {
        let refused = egress(loopback()).send(&server.route("server.test"), request(target), LIMITS).await;
        assert!(matches!(refused, Err(TransportError::Denied(_))), "{target}: {refused:?}");
    }
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn s_063_an_answer_that_is_too_large_is_not_read() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = Server::start(move |_, mut stream| async move {
        stream.write_all(chunked.as_bytes()).await.ok();
        while stream.write_all(b"64\r\n0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n").await.is_ok() {}
    })
    .await;
    let announced = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n").await;
    let until_closed =
        Server::saying(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(1_001))).await;
    for server in [endless, announced, until_closed] {
        assert_eq!(send(&server).await.unwrap_err(), TransportError::TooLarge { limit_bytes: 1_000 });
    }
    assert_eq!(send(&Server::saying(ok(&"x".repeat(1_000))).await).await.unwrap().body().len(), 1_000);
}

#[tokio::test]
async fn s_063_a_slow_answer_is_given_up() {
    let limits = CallLimits { body_max_bytes: 1_000_000, deadline: Duration::from_millis(700) };
    let dripping = Server::start(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await.ok();
        while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let silent = Server::start(|_, stream| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    for server in [dripping, silent] {
        let started = Instant::now();
        let given_up = egress(loopback()).send(&server.route("server.test"), request("/x"), limits).await;
        assert_eq!(given_up.unwrap_err(), TransportError::Deadline(limits.deadline));
        assert!(started.elapsed() < Duration::from_secs(25));
    }
}

#[tokio::test]
async fn s_063_an_answer_that_breaks_off_is_none() {
    let short = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc").await;
    let nonsense = Server::saying("220 smtp.test ESMTP\r\n\r\n").await;
    let empty = Server::saying("").await;
    for server in [short, nonsense, empty] {
        assert!(matches!(send(&server).await, Err(TransportError::Unreachable(_))));
    }
}

#[tokio::test]
async fn s_063_nothing_is_unpacked() {
    let server =
        Server::saying("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x02ab").await;
    assert_eq!(&send(&server).await.unwrap().body()[..], b"\x1f\x02ab");
}

#[tokio::test]
async fn s_089_signed_calls_follow_no_redirect() {
    let second = Server::saying(ok("stolen")).await;
    let location = format!("https://server.test:{}/y", second.port());
    let first =
        Server::saying(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
    assert_eq!(send(&first).await.unwrap().status(), StatusCode::FOUND);
    assert_eq!(second.connections(), 0);
}

/// A request that carries a token of somebody's.
fn post(url: &str) -> http::Request<Bytes> {
    http::Request::post(url).header("Authorization", "Bearer secret").body(Bytes::from_static(b"{}")).unwrap()
}

#[tokio::test]
async fn s_089_what_is_posted_to_others_goes_to_them_alone() {
    let server = Server::saying(ok("stored")).await;
    let url = format!("https://server.test:{}/store", server.port());
    let answer = egress(loopback()).send_unsigned(post(&url), LIMITS).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"stored");
    let request = server.requests()[0].to_ascii_lowercase();
    assert!(
        request.starts_with("post /store http/1.1") && request.contains("authorization: bearer secret"),
        "{request}"
    );
    let location = format!("HTTP/1.1 307 Moved\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
    let first = Server::saying(location).await;
    let moved = format!("https://server.test:{}/store", first.port());
    let answer = egress(loopback()).send_unsigned(post(&moved), LIMITS).await.unwrap();
    assert_eq!((answer.status(), server.connections()), (StatusCode::TEMPORARY_REDIRECT, 1));
    let plain = egress(loopback()).send_unsigned(post("http://server.test/"), LIMITS).await;
    assert!(matches!(plain, Err(TransportError::Denied(_))), "{plain:?}");
}

#[tokio::test]
async fn s_089_unsigned_calls_follow_five_redirects_at_most() {
    for (times, arrives) in [(5, true), (6, false)] {
        let server = Server::start(move |request, mut stream| async move {
            let done: u32 = request.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            let answer = match done {
                done if done == times => ok("there"),
                _ => format!(
                    "HTTP/1.1 301 Moved\r\nLocation: /{}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                    done + 1
                ),
            };
            stream.write_all(answer.as_bytes()).await.ok();
            stream.shutdown().await.ok();
        })
        .await;
        let answer = egress(loopback()).get(&format!("https://server.test:{}/0", server.port()), LIMITS).await;
        assert_eq!(answer.is_ok(), arrives, "{times}: {answer:?}");
    }
}

#[tokio::test]
async fn s_089_redirects_elsewhere_are_refused() {
    let target = Server::saying(ok("reached")).await;
    let other_port = format!("https://server.test:{}/", target.port());
    for location in ["http://server.test/", "file:///etc/passwd", "data:text/plain,x", &other_port, "https://[::1]/"] {
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let server = Server::saying(answer).await;
        let answer = egress(loopback()).get(&format!("https://server.test:{}/", server.port()), LIMITS).await;
        // A redirect that makes no sense at all is the answer itself.
        let followed = answer.as_ref().is_ok_and(|answer| answer.status() != StatusCode::FOUND);
        assert!(!followed, "{location}: {answer:?}");
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(target.connections(), 0);
    let private = Server::start(|_, mut stream| async move {
        let port = stream.get_ref().0.local_addr().unwrap().port();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: https://10.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok();
    })
    .await;
    let answer = egress(loopback()).get(&format!("https://server.test:{}/", private.port()), LIMITS).await;
    assert!(matches!(answer, Err(TransportError::Denied(_))), "{answer:?}");
}

#[tokio::test]
async fn s_087_private_addresses_are_not_connected_to() {
    let server = Server::saying(ok("reached")).await;
    let port = server.port();
    let strict = egress(Vec::new());
    for host in
        ["server.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "127.1", "0x7f.1", "2130706433", "0177.0.0.1"]
    {
        let route = server.route(host);
        let sent = strict.send(&route, request("/x"), LIMITS).await;
        assert!(matches!(sent, Err(TransportError::Denied(_))), "{host}: {sent:?}");
        let got = strict.get(&format!("https://{host}:{port}/"), LIMITS).await;
        assert!(matches!(got, Err(TransportError::Denied(_))), "{host}: {got:?}");
        let posted = strict.send_unsigned(post(&format!("https://{host}:{port}/")), LIMITS).await;
        assert!(matches!(posted, Err(TransportError::Denied(_))), "{host}: {posted:?}");
        for protocol in ["http", "https"] {
            let fetched = strict.fetch(&format!("{protocol}://{host}:{port}/"), LIMITS).await.map(drop);
            assert!(matches!(fetched, Err(TransportError::Denied(_))), "{host}: {fetched:?}");
        }
    }
    // By way of a service record, too.
    let elsewhere = Endpoint::Host { name: "target.test".to_owned(), port };
    let route = Route { endpoints: vec![elsewhere], ..server.route("server.test") };
    assert!(matches!(strict.send(&route, request("/x"), LIMITS).await, Err(TransportError::Denied(_))));
    assert_eq!(server.connections(), 0, "no SYN leaves");
    send(&server).await.unwrap();
}

#[tokio::test]
async fn s_087_pages_are_no_servers() {
    let server = Server::saying(ok("reached")).await;
    let options = EgressOptions { allow_private_pages: Vec::new(), ..options(loopback()) };
    let egress = Egress::new(options, Arc::new(names())).unwrap();
    for host in ["server.test", "127.0.0.1"] {
        let fetched = egress.fetch(&format!("https://{host}:{}/", server.port()), LIMITS).await.map(drop);
        let Err(TransportError::Denied(reason)) = fetched else { panic!("{host}: {fetched:?}") };
        assert!(reason.contains("media.preview_allow_private_addresses"), "{reason}");
    }
    assert_eq!(server.connections(), 0);
    egress.get(&format!("https://server.test:{}/", server.port()), LIMITS).await.unwrap();
}

fn for_push(allow: Vec<Network>) -> Egress {
    let options = EgressOptions { allow_private_push_gateways: allow, ..options(loopback()) };
    Egress::new(options, Arc::new(names())).unwrap()
}

async fn notify(egress: &Egress, url: &str, limits: CallLimits) -> Result<StatusCode, TransportError> {
    let request = http::Request::builder().method(Method::POST).uri(url).body(Bytes::from_static(b"{}")).unwrap();
    egress.notify(request, limits).await.map(|answer| answer.status())
}

#[tokio::test]
async fn s_087_push_gateways_are_neither_servers_nor_pages() {
    let server = Server::saying(ok("{}")).await;
    for scheme in ["https", "http"] {
        for host in ["server.test", "127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]"] {
            let url = format!("{scheme}://{host}:{}/_matrix/push/v1/notify", server.port());
            let told = notify(&for_push(Vec::new()), &url, LIMITS).await;
            let Err(TransportError::Denied(reason)) = told else { panic!("{url}: {told:?}") };
            assert!(reason.contains("push.allow_private_addresses"), "{reason}");
        }
    }
    assert_eq!(server.connections(), 0, "no SYN leaves");
    let url = format!("https://server.test:{}/_matrix/push/v1/notify", server.port());
    assert_eq!(notify(&for_push(loopback()), &url, LIMITS).await, Ok(StatusCode::OK));
    assert!(server.requests()[0].starts_with("POST /_matrix/push/v1/notify HTTP/1.1\r\n"));
    for url in ["ftp://server.test/", "https://user:password@server.test/"] {
        assert!(notify(&for_push(loopback()), url, LIMITS).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn s_095_a_push_gateway_cannot_keep_us_or_send_us_elsewhere() {
    let told = async |server: &Server, limits: CallLimits| {
        notify(&for_push(loopback()), &format!("https://server.test:{}/", server.port()), limits).await
    };
    let moved = Server::saying("HTTP/1.1 307 Moved\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(told(&moved, LIMITS).await, Ok(StatusCode::TEMPORARY_REDIRECT));
    assert_eq!(moved.requests().len(), 1);
    let announced = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    assert_eq!(told(&announced, LIMITS).await, Err(TransportError::TooLarge { limit_bytes: 1_000 }));
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(5_000));
    let endless = Server::saying(endless).await;
    assert_eq!(told(&endless, LIMITS).await, Err(TransportError::TooLarge { limit_bytes: 1_000 }));
    // One that says nothing, and one that does not come to an end.
    let limits = CallLimits { deadline: Duration::from_millis(300), ..LIMITS };
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"] {
        let hanging = Server::start(move |_, mut stream| async move {
            stream.write_all(beginning.as_bytes()).await.ok();
            tokio::time::sleep(Duration::from_mins(1)).await;
        })
        .await;
        assert_eq!(told(&hanging, limits).await, Err(TransportError::Deadline(limits.deadline)));
    }
}

/// What the kernel is to do next about our end of the connection to a port: which timer runs, and for how many seconds.
#[cfg(target_os = "linux")]
fn timer(port: u16) -> Option<(u64, u64)> {
    const TICKS_PER_SECOND: u64 = 100;
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let remote = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.split_whitespace().nth(2) == Some(&remote))?;
    let (timer, ticks) = line.split_whitespace().nth(5)?.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).unwrap();
    Some((number(timer), number(ticks) / TICKS_PER_SECOND))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn r_30_the_kernel_asks_whether_a_silent_server_is_still_there() {
    const KEEPALIVE: u64 = 2;
    let silent = Server::start(|_, stream| async move {
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop(stream);
    })
    .await;
    let asks_in_seconds = async {
        loop {
            // Until the request is acknowledged, another timer runs.
            if let Some((KEEPALIVE, seconds)) = timer(silent.port()) {
                return seconds;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seconds = tokio::select! {
        answer = send(&silent) => panic!("{answer:?}"),
        seconds = asks_in_seconds => seconds,
    };
    assert!(seconds <= 15, "in {seconds} s");
}

#[tokio::test]
async fn r_34_where_few_connections_may_be_open_none_is_kept_for_calls_to_come() {
    const CALLS: usize = 5;
    for closes_connections in [false, true] {
        let server = Server::start(|_, mut stream| async move {
            while stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.is_ok() {
                if read_request(&mut stream).await.is_none() {
                    return;
                }
            }
        })
        .await;
        let options = EgressOptions { closes_connections, ..options(loopback()) };
        let egress = Egress::new(options, Arc::new(names())).unwrap();
        for _ in 0..CALLS {
            egress.send(&server.route("server.test"), request("/x"), LIMITS).await.unwrap();
            // A connection is kept a moment after its answer was read.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.connections() == CALLS, closes_connections, "{} connections", server.connections());
    }
}

#[tokio::test]
async fn s_095_without_tls_only_where_the_operator_allows_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://server.test:{}/_matrix/push/v1/notify", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1_000];
            assert!(stream.read(&mut request).await.is_ok_and(|bytes| bytes > 0));
            stream.write_all(ok("{}").as_bytes()).await.ok();
        }
    });
    assert_eq!(notify(&for_push(loopback()), &url, LIMITS).await, Ok(StatusCode::OK));
    let elsewhere = for_push(vec!["10.0.0.0/8".parse().unwrap()]);
    assert!(matches!(notify(&elsewhere, &url, LIMITS).await, Err(TransportError::Denied(_))));
}

#[tokio::test]
async fn s_089_what_is_fetched_is_not_followed_and_not_endless() {
    let server = Server::saying("HTTP/1.1 302 Found\r\nLocation: https://10.0.0.1/\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("https://server.test:{}/", server.port());
    let moved = egress(loopback()).fetch(&url, LIMITS).await.map(|answer| answer.status());
    assert_eq!(moved, Ok(StatusCode::FOUND));
    for url in ["file:///etc/passwd", "ftp://server.test/", "https://user@server.test/", "data:text/html,x"] {
        let denied = egress(loopback()).fetch(url, LIMITS).await.map(drop);
        assert!(matches!(denied, Err(TransportError::Denied(_))), "{url}: {denied:?}");
    }
    let announced = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n").await;
    let url = format!("https://server.test:{}/", announced.port());
    let refused = egress(loopback()).fetch(&url, LIMITS).await.map(drop);
    assert_eq!(refused, Err(TransportError::TooLarge { limit_bytes: 1_000 }));
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(5_000));
    let endless = Server::saying(endless).await;
    let url = format!("https://server.test:{}/", endless.port());
    let answer = egress(loopback()).fetch(&url, LIMITS).await.unwrap();
    let read: Result<Vec<Bytes>, _> = answer.into_body().try_collect().await;
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
}

#[tokio::test]
async fn s_088_only_the_vetted_of_several_addresses_are_used() {
    let server = Server::saying(ok("reached")).await;
    let addresses = vec!["10.0.0.1".parse().unwrap(), "192.168.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let names = Table { addresses: HashMap::from([("server.test", addresses)]), ..Table::default() };
    let egress = Egress::new(options(loopback()), Arc::new(names)).unwrap();
    let started = Instant::now();
    egress.send(&server.route("server.test"), request("/x"), LIMITS).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(9), "the private ones were not tried");
}

#[tokio::test]
async fn s_093_a_certificate_must_be_for_the_name_and_by_somebody_we_know() {
    let server = Server::saying(ok("reached")).await;
    let wrong_name = egress(loopback()).send(&server.route("other.test"), request("/x"), LIMITS).await;
    assert!(matches!(wrong_name, Err(TransportError::Unreachable(_))), "{wrong_name:?}");
    let unknown = EgressOptions { extra_root_certificates_pem: vec![], ..options(loopback()) };
    let unknown = Egress::new(unknown, Arc::new(names())).unwrap();
    let unknown = unknown.send(&server.route("server.test"), request("/x"), LIMITS).await;
    assert!(matches!(unknown, Err(TransportError::Unreachable(_))), "{unknown:?}");
    assert!(server.requests().is_empty(), "nothing was said to it");
    // An address needs a certificate for the address.
    egress(loopback()).send(&server.route("127.0.0.1"), request("/x"), LIMITS).await.unwrap();
}

#[tokio::test]
async fn s_093_nothing_goes_without_tls() {
    for url in ["http://server.test/", "ftp://server.test/", "https://user@server.test/", "https://u:p@server.test/"] {
        assert!(matches!(egress(loopback()).get(url, LIMITS).await, Err(TransportError::Denied(_))), "{url}");
    }
}

#[tokio::test]
async fn the_next_place_is_tried_when_one_cannot_be_connected_to() {
    let server = Server::saying(ok("reached")).await;
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    let endpoint = |name: &str, port| Endpoint::Host { name: name.to_owned(), port };
    let route = Route {
        host: "server.test".to_owned(),
        certificate_name: "server.test".to_owned(),
        endpoints: vec![
            endpoint("missing.test", 5),
            endpoint("target.test", closed),
            endpoint("target.test", server.port()),
        ],
    };
    egress(loopback()).send(&route, request("/x"), LIMITS).await.unwrap();
    assert!(server.requests()[0].contains("host: server.test\r\n"), "{}", server.requests()[0]);
}

fn transport(options: EgressOptions, names: Table) -> HttpTransport {
    HttpTransport::with_names(options, here().to_owned(), world().0, Arc::new(names)).unwrap()
}

#[tokio::test]
async fn an_override_keeps_the_name() {
    let server = Server::saying(ok("reached")).await;
    let overrides: HashMap<OwnedServerName, SocketAddr> = HashMap::from([
        (server_name!("server.test").to_owned(), server.address),
        (server_name!("delegated.test:99").to_owned(), server.address),
        (server_name!("10.0.0.1").to_owned(), server.address),
        (server_name!("other.test").to_owned(), server.address),
    ]);
    // The address is the operator's word, so that it need not be allowed.
    let transport = transport(EgressOptions { overrides, ..options(Vec::new()) }, Table::default());
    for name in ["server.test", "delegated.test:99", "10.0.0.1"] {
        let destination = <&ServerName>::try_from(name).unwrap();
        transport.send(destination, request("/x"), LIMITS).await.unwrap();
        let said = server.requests().pop().unwrap();
        assert!(said.contains(&format!("host: {name}\r\n")), "{said}");
    }
    let wrong = transport.send(server_name!("other.test"), request("/x"), LIMITS).await;
    assert!(matches!(wrong, Err(TransportError::Unreachable(_))), "its certificate is still checked: {wrong:?}");
}

#[tokio::test]
async fn discovery_and_client_together() {
    let server = Server::saying(ok("reached")).await;
    let mut names = names();
    names.services.insert(
        "_matrix-fed._tcp.server.test",
        vec![Service { priority: 1, weight: 1, hostname: "target.test".to_owned(), port: server.port() }],
    );
    let transport = transport(options(loopback()), names);
    // Port 443 of this machine has no web server, or none with a certificate that we believe.
    transport.send(server_name!("server.test"), request("/x"), LIMITS).await.unwrap();
    assert!(server.requests()[0].contains("host: server.test\r\n"));
    let by_port = ServerName::parse(format!("server.test:{}", server.port())).unwrap();
    transport.send(&by_port, request("/x"), LIMITS).await.unwrap();
    assert!(server.requests()[1].contains(&format!("host: {by_port}\r\n")));
}

#[tokio::test]
async fn the_system_knows_this_machine() {
    let names = SystemNames::new().unwrap();
    let addresses = names.addresses("localhost").await.unwrap();
    assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty(), "{addresses:?}");
}

#[tokio::test]
async fn extra_certificates_must_be_certificates() {
    for pem in [&b""[..], b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let options = EgressOptions {
            extra_root_certificates_pem: vec![AUTHORITY.to_vec(), pem.to_vec()],
            ..EgressOptions::default()
        };
        let refused = Egress::new(options, Arc::new(Table::default())).err().unwrap().to_string();
        assert!(refused.starts_with("certificate 1 of the extra root certificates"), "{refused}");
    }
}
