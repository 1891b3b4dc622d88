//! The federation listener's certificate.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use homeserver_server::{
    listen::Limits,
    tls::{Certificate, TlsError},
};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::scene::{BIG, PATIENCE, Scene, impatient, read_all};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificates").join(name)
}

fn load(certificate: &str, key: &str) -> Result<Certificate, TlsError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Certificate::load(fixture(certificate), fixture(key))
}

async fn connect(scene: &Scene, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("authority.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, scene.connect().await).await
}

#[tokio::test]
async fn both_protocols_are_spoken() {
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let scene = Scene::with(Limits::default(), Some(certificate), &[]).await;
    for protocols in [&[b"http/1.1".as_slice()] as &[&[u8]], &[]] {
        let mut stream = connect(&scene, protocols).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(read_all(&mut stream).await.ends_with("hello"));
    }
    let stream = connect(&scene, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut sender = http2(stream).await;
    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
    let body = sender.send_request(get("/big")).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), BIG);
}

async fn http2(stream: TlsStream<TcpStream>) -> SendRequest<String> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> http::Request<String> {
    http::Request::get(format!("https://localhost{path}")).body(String::new()).unwrap()
}

#[tokio::test]
async fn s_153_an_answer_left_unread_ends_an_http2_connection() {
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let scene = Scene::with(impatient(), Some(certificate), &[]).await;
    let mut sender = http2(connect(&scene, &[b"h2"]).await.unwrap()).await;
    let unread = sender.send_request(get("/big")).await.unwrap().into_body();
    let started = Instant::now();
    while !sender.is_closed() {
        assert!(started.elapsed() < PATIENCE, "the connection should have been closed");
        // Other answers are read all the time.
        let _ = sender.send_request(get("/")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(unread.collect().await.is_err());
}

#[tokio::test]
async fn s_153_an_http2_connection_without_requests_is_closed() {
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let limits = Limits { write_timeout: PATIENCE, ..impatient() };
    let scene = Scene::with(limits, Some(certificate), &[]).await;
    let mut sender = http2(connect(&scene, &[b"h2"]).await.unwrap()).await;
    let waiting = sender.send_request(get("/wait"));
    tokio::time::sleep(limits.idle_timeout * 3).await;
    scene.wake.notify_one();
    assert_eq!(waiting.await.unwrap().status(), 200, "a long poll is a request");
    let started = Instant::now();
    while !sender.is_closed() {
        assert!(started.elapsed() < PATIENCE, "the connection should have been closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Begins to speak HTTP/2 and says a frame over and over, until the other end has had enough, or so many times.
async fn flood(scene: &Scene, first: &[u8], again: &[u8], times: usize) {
    let mut stream = connect(scene, &[b"h2"]).await.unwrap();
    let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    start.extend(frame(4, 0, 0, &[]));
    start.extend(first);
    stream.write_all(&start).await.unwrap();
    for _ in 0..times {
        if stream.write_all(again).await.is_err() {
            return;
        }
    }
    read_all(&mut stream).await;
}

#[tokio::test]
async fn s_103_floods_of_frames_end_the_connection_and_hold_up_no_other() {
    const HEADERS: u8 = 1;
    const END_HEADERS: u8 = 4;
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let limits = Limits { idle_timeout: PATIENCE, head_timeout: PATIENCE, ..impatient() };
    let scene = Scene::with(limits, Some(certificate), &[]).await;
    // A head that never ends.
    let field = [b"\x00\x01x\x7e".as_slice(), &[b'y'; 126]].concat();
    flood(&scene, &frame(HEADERS, 0, 1, &[0x82]), &frame(9, 0, 1, &field.repeat(60)), 10_000).await;
    // A body of nothing that never ends: `POST /length`.
    let head = [b"\x83\x87\x44\x07/length\x41\x09localhost".as_slice()].concat();
    flood(&scene, &frame(HEADERS, END_HEADERS, 1, &head), &frame(0, 0, 1, &[]), 200_000).await;
    // Pings and settings that all want an answer, which nobody reads.
    flood(&scene, &[], &frame(6, 0, 0, &[0; 8]), 200_000).await;
    let mut sender = http2(connect(&scene, &[b"h2"]).await.unwrap()).await;
    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn s_103_streams_that_are_opened_and_reset_at_once_end_the_connection() {
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let scene = Scene::with(Limits::default(), Some(certificate), &[]).await;
    let mut stream = connect(&scene, &[b"h2"]).await.unwrap();
    let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    start.extend(frame(4, 0, 0, &[]));
    // `GET /never`, and at once that it is not wanted any more.
    let head = [b"\x82\x87\x44\x06/never\x41\x09localhost".as_slice()].concat();
    for number in 0..50_000 {
        let stream = 2 * number + 1;
        start.extend(frame(1, 5, stream, &head));
        start.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The other end may be gone before all is written.
    let _ = stream.write_all(&start).await;
    read_all(&mut stream).await;
    let mut sender = http2(connect(&scene, &[b"h2"]).await.unwrap()).await;
    assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn s_153_a_handshake_that_does_not_come_is_not_waited_for() {
    let certificate = load("localhost.pem", "localhost.key.pem").unwrap();
    let scene = Scene::with(impatient(), Some(certificate), &[]).await;
    assert_eq!(read_all(&mut scene.connect().await).await, "");
    assert!(!scene.answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.contains("hello"));
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let error = |certificate, key| load(certificate, key).map(|_| ()).unwrap_err().to_string();
    assert!(error("nowhere.pem", "localhost.key.pem").contains("federation.certificate_file"));
    assert!(error("localhost.pem", "nowhere.pem").contains("federation.private_key_file"));
    assert!(error("localhost.key.pem", "localhost.key.pem").contains("there is no certificate in it"));
    assert!(error("localhost.pem", "localhost.pem").contains("federation.private_key_file"));
    assert!(matches!(load("localhost.pem", "other.key.pem").map(|_| ()), Err(TlsError::Mismatch(_))));
}

#[tokio::test]
async fn r_37_a_bad_reload_keeps_the_old_certificate() {
    let directory = TempDir::new().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let copy = |name: &str, to: &Path| std::fs::copy(fixture(name), to).map(|_| ()).unwrap();
    copy("localhost.pem", &chain);
    copy("localhost.key.pem", &key);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = Certificate::load(chain.clone(), key.clone()).unwrap();
    let scene = Scene::with(Limits::default(), Some(certificate.clone()), &[]).await;
    let served = async || connect(&scene, &[]).await.unwrap().get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = served().await;

    copy("other.pem", &chain);
    assert!(certificate.reload().is_err(), "the key is still the other one's");
    assert_eq!(served().await, first);
    copy("other.key.pem", &key);
    certificate.reload().unwrap();
    assert_ne!(served().await, first);
}
