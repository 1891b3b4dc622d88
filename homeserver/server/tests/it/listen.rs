//! Timers, caps, panics and the end of a listener.

use std::time::{Duration, Instant};

use homeserver_server::listen::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::{BIG, PATIENCE, Scene, impatient, read_all};

const CLOSE: &str = "Host: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn s_153_whoever_says_nothing_is_sent_away() {
    let scene = Scene::new(impatient()).await;
    let started = Instant::now();
    assert_eq!(read_all(&mut scene.connect().await).await, "");
    assert!(started.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn s_153_a_slow_head_is_cut_off_however_steadily_it_trickles() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let started = Instant::now();
    while stream.write_all(b"X: y\r\n").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the connection should have been closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn s_153_an_idle_connection_is_closed_after_its_answer() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(read_all(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_proxy_may_keep_an_idle_connection() {
    let scene = Scene::new(Limits { proxy_head_timeout: PATIENCE * 10, ..impatient() }).await;
    let mut stream = scene.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed after {answer:?}");
        }
        tokio::time::sleep(impatient().head_timeout * 3).await;
    }
}

#[tokio::test]
async fn s_153_a_body_that_stops_ends_the_request() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc").await;
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("incomplete"), "{answer}");
}

#[tokio::test]
async fn s_153_a_body_that_trickles_ends_the_request() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").await;
    let started = Instant::now();
    while stream.write_all(b"a").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the connection should have been closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_slow_body_that_arrives_in_time_is_read() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send(&format!("POST /length HTTP/1.1\r\nContent-Length: 6\r\n{CLOSE}")).await;
    for piece in [b"ab", b"cd", b"ef"] {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(piece).await.unwrap();
    }
    assert!(read_all(&mut stream).await.ends_with("length 6"));
}

#[tokio::test]
async fn s_153_who_does_not_read_the_answer_is_sent_away() {
    let scene = Scene::new(impatient()).await;
    let mut stream = scene.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let read = read_all(&mut stream).await.len();
    assert!(read < BIG, "all {read} bytes were sent to somebody who did not read for long");
}

#[tokio::test]
async fn a_head_beyond_all_measure_is_refused() {
    let scene = Scene::new(impatient()).await;
    let answer = scene.answer(&format!("GET / HTTP/1.1\r\nX: {}\r\n{CLOSE}", "y".repeat(200_000))).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(scene.answer(&format!("GET / HTTP/1.1\r\n{CLOSE}")).await.ends_with("hello"));
}

#[tokio::test]
async fn r_34_beyond_the_cap_newcomers_wait_for_a_place() {
    let scene = Scene::new(Limits { connections_max: 2, ..Limits::default() }).await;
    let waiting = [scene.connect().await, scene.connect().await];
    let mut newcomer = scene.send(&format!("GET / HTTP/1.1\r\n{CLOSE}")).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), newcomer.read(&mut byte)).await;
    assert!(early.is_err(), "nobody should have answered yet");
    drop(waiting);
    assert!(read_all(&mut newcomer).await.ends_with("hello"));
}

#[tokio::test]
async fn a_panic_is_one_answer_and_nothing_of_it_goes_out() {
    let scene = Scene::new(Limits::default()).await;
    let answer = scene.answer(&format!("GET /panic HTTP/1.1\r\n{CLOSE}")).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains(r#""errcode":"M_UNKNOWN""#), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
    assert!(scene.answer(&format!("GET / HTTP/1.1\r\n{CLOSE}")).await.ends_with("hello"));
}

#[tokio::test]
async fn s_105_only_trusted_proxies_say_who_asks() {
    let request = format!("GET /address HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9, 192.0.2.1\r\n{CLOSE}");
    let suspicious = Scene::new(Limits::default()).await;
    assert!(suspicious.answer(&request).await.ends_with("\r\n127.0.0.1"));
    let trusting = Scene::with(Limits::default(), None, &["127.0.0.1"]).await;
    assert!(trusting.answer(&request).await.ends_with("\r\n192.0.2.1"));
    assert!(trusting.answer(&format!("GET /address HTTP/1.1\r\n{CLOSE}")).await.ends_with("\r\n127.0.0.1"));
}

#[tokio::test]
async fn r_37_what_is_in_flight_is_finished_and_nobody_new_is_let_in() {
    let limits = Limits { drain_timeout: PATIENCE, ..Limits::default() };
    let scene = Scene::new(limits).await;
    let mut busy = scene.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut idle = scene.connect().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.stop.now();
    assert_eq!(read_all(&mut idle).await, "");
    assert!(tokio::net::TcpStream::connect(scene.address).await.is_err());
    scene.wake.notify_one();
    assert!(read_all(&mut busy).await.ends_with("woken"));
    tokio::time::timeout(PATIENCE, scene.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn r_37_whoever_never_finishes_is_not_waited_for_longer() {
    let scene = Scene::new(impatient()).await;
    let mut stuck = scene.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.stop.now();
    tokio::time::timeout(PATIENCE, scene.serving).await.unwrap().unwrap();
    assert_eq!(read_all(&mut stuck).await, "");
}

/// A request that waits for so long that its connection has rested, and is answered then. What follows are its answer and
/// those to the requests after it.
async fn answer_after_rest(scene: &Scene, request: &str, then: &str) -> String {
    let mut stream = scene.send(request).await;
    tokio::time::sleep(impatient().long_wait * 3).await;
    stream.write_all(then.as_bytes()).await.unwrap();
    scene.wake.notify_one();
    read_all(&mut stream).await
}

#[tokio::test]
async fn whoever_waits_long_is_answered_as_whoever_does_not() {
    let scene = Scene::new(impatient()).await;
    let last = format!("GET /address HTTP/1.1\r\n{CLOSE}");
    let keeping = "Host: a\r\nConnection: keep-alive\r\n\r\n";
    let requests = [
        ("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true),
        (format!("GET /wait HTTP/1.1\r\n{CLOSE}"), false),
        (format!("GET /wait HTTP/1.0\r\n{keeping}"), true),
        ("GET /wait HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(), false),
        (format!("HEAD /wait HTTP/1.1\r\n{keeping}"), true),
        ("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}".to_owned(), true),
        ("POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned(), true),
    ];
    for (request, keeps) in requests {
        let answer = answer_after_rest(&scene, &request, if keeps { &last } else { "" }).await;
        let mut quick = scene.send(&request).await;
        scene.wake.notify_one();
        quick.write_all(if keeps { last.as_bytes() } else { b"" }).await.unwrap();
        let dateless = |answer: &str| -> Vec<String> {
            answer.lines().filter(|line| !line.starts_with("date: ")).map(str::to_owned).collect()
        };
        assert_eq!(dateless(&answer), dateless(&read_all(&mut quick).await), "{request:?}");
        assert_eq!(answer.contains("woken"), !request.starts_with("HEAD"), "{request:?}: {answer}");
        assert_eq!(answer.ends_with("127.0.0.1"), keeps, "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order_after_a_long_wait() {
    let scene = Scene::new(impatient()).await;
    let (long, last) = ("x".repeat(1_000), format!("GET /address HTTP/1.1\r\n{CLOSE}"));
    let row = format!("GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    let answer = answer_after_rest(&scene, &row, &last).await;
    let places = ["woken", "hello", "127.0.0.1"].map(|text| answer.find(text).expect(text));
    assert!(places.is_sorted() && answer.matches("HTTP/1.1 200 ").count() == 3, "{answer}");
    // The end of the first answer is still to be read when the second request waits.
    let scene = Scene::new(Limits { write_timeout: PATIENCE, ..impatient() }).await;
    let row = "GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = answer_after_rest(&scene, row, &last).await;
    assert!(answer.len() > BIG && answer.contains("woken") && answer.ends_with("127.0.0.1"), "{}", answer.len());
}

#[tokio::test]
async fn a_body_that_nobody_has_read_is_not_lost_in_a_long_wait() {
    let scene = Scene::new(Limits { body_idle_timeout: PATIENCE, ..impatient() }).await;
    let request = "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
    let answer = answer_after_rest(&scene, request, &format!("defGET /address HTTP/1.1\r\n{CLOSE}")).await;
    assert!(answer.contains("length 6") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn whoever_leaves_during_a_long_wait_is_not_worked_for() {
    let scene = Scene::new(impatient()).await;
    for ahead in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = scene.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::time::sleep(impatient().long_wait * 3).await;
        stream.write_all(ahead.as_bytes()).await.unwrap();
        let early = tokio::time::timeout(impatient().long_wait, scene.left.notified()).await;
        assert!(early.is_err(), "nobody has left yet");
        drop(stream);
        if ahead.is_empty() {
            tokio::time::timeout(PATIENCE, scene.left.notified()).await.expect("the handler is given up");
        }
    }
}

#[tokio::test]
async fn r_37_a_long_wait_is_finished_when_the_server_stops() {
    let limits = Limits { drain_timeout: PATIENCE, long_wait: impatient().long_wait, ..Limits::default() };
    let scene = Scene::new(limits).await;
    let mut waiting = scene.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(limits.long_wait * 3).await;
    scene.stop.now();
    scene.wake.notify_one();
    assert!(read_all(&mut waiting).await.ends_with("woken"));
    tokio::time::timeout(PATIENCE, scene.serving).await.unwrap().unwrap();
}

/// Where two readers of the same bytes could see two different requests, there is none, or one that ends where the
/// specification of HTTP says that it does.
#[tokio::test]
async fn s_103_requests_that_could_be_read_in_two_ways() {
    let scene = Scene::new(Limits::default()).await;
    let refused = [
        format!("POST /length HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n{CLOSE}abcd"),
        format!("POST /length HTTP/1.1\r\nContent-Length: 3, 4\r\n{CLOSE}abcd"),
        format!("POST /length HTTP/1.1\r\nContent-Length: +3\r\n{CLOSE}abc"),
        format!("POST /length HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n{CLOSE}0\r\n\r\n"),
        format!("POST /length HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n{CLOSE}0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nX: a\r\n folded\r\n{CLOSE}"),
        format!("GET / HTTP/1.1\r\nX: a\rb\r\n{CLOSE}"),
        format!("GET / HTTP/1.1\r\nX : a\r\n{CLOSE}"),
        format!("GET / HTTP/1.1\r\nX\0: a\r\n{CLOSE}"),
        format!("GET / HTTP/1.1\r\n{}{CLOSE}", "X: a\r\n".repeat(1_000)),
    ];
    for request in refused {
        let answer = scene.answer(&request).await;
        let is_refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 431 ");
        assert!(is_refused && !answer.contains("hello") && !answer.contains("\r\n\r\nlength"), "{request:?}: {answer}");
    }
    // Lines that end without a carriage return are lines, or nothing; never a part of the line before.
    let answer = scene.answer("GET /address HTTP/1.1\nHost: a\nX: b\nConnection: close\n\n").await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let bare = format!("POST /length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{CLOSE}3\nabc\n0\n\n");
    let answer = scene.answer(&bare).await;
    assert!(!answer.contains("length 3") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    // Of two lengths the chunks' counts, and what follows is another request, not a hidden one.
    let both = format!(
        "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n{CLOSE}"
    );
    let answer = scene.answer(&both).await;
    assert!(answer.contains("length 3") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.matches("HTTP/1.1 ").count() <= 2, "{answer}");
    // Requests in a row are answered in their order.
    let row = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /address HTTP/1.1\r\n{CLOSE}");
    let answer = scene.answer(&row).await;
    assert!(answer.find("hello") < answer.find("127.0.0.1") && answer.contains("hello"), "{answer}");
}
