//! The program itself: starting, stopping, and the commands beside it.

mod commands;
mod process;
mod room_check;

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use self::process::{Nudge, nudge, register};

/// What the operator promised: a stop takes ten seconds at most.
const STOP_MAX: Duration = Duration::from_secs(10);

#[test]
fn r_37_sigterm_answers_long_polls_and_exits_in_time() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[]);
    let token = register(&server, "alice", "curiouser and curiouser");
    let (status, first) = server.get("/_matrix/client/v3/sync", Some(&token));
    assert_eq!(status, 200, "{first}");
    let since = first["next_batch"].as_str().unwrap();
    let poll = server.begin("GET", &format!("/_matrix/client/v3/sync?timeout=60000&since={since}"), Some(&token), "");
    std::thread::sleep(Duration::from_millis(500));

    let started = Instant::now();
    let status = server.terminate();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < STOP_MAX, "{:?}", started.elapsed());
    let (status, answer) = process::finish(poll);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["next_batch"].is_string(), "{answer}");
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[]);
    let token = register(&server, "alice", "curiouser and curiouser");
    let (status, room) = server.post("/_matrix/client/v3/createRoom", Some(&token), &json!({ "name": "Tea" }));
    assert_eq!(status, 200, "{room}");
    assert!(server.terminate().success());

    let server = Nudge::start(&directory, &[], &[]);
    let (status, rooms) = server.get("/_matrix/client/v3/joined_rooms", Some(&token));
    assert_eq!((status, &rooms["joined_rooms"][0]), (200, &room["room_id"]), "{rooms}");
}

#[test]
fn whoever_starts_it_without_a_file_finds_buddies_and_can_chat_at_once() {
    const CLIENT: &str = "/_matrix/client/v3";
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[("NUDGE_BOTS__ENABLED", "true")]);
    let token = register(&server, "alice", "curiouser and curiouser");
    let post = |path: &str, body| server.post(&format!("{CLIENT}{path}"), Some(&token), &body).1;
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < Duration::from_mins(1), "never came true: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until("three buddies in the directory", &|| {
        let found = |term: &str| {
            let results = post("/user_directory/search", json!({ "search_term": term }))["results"].take();
            results.as_array().is_some_and(|results| results.len() == 1)
        };
        ["casual", "friendly", "creative"].into_iter().all(found)
    });
    let invitation =
        json!({ "is_direct": true, "preset": "trusted_private_chat", "invite": ["@casual-friend:localhost"] });
    let room = post("/createRoom", invitation)["room_id"].as_str().unwrap().to_owned();
    let message = json!({ "msgtype": "m.text", "body": "hello" }).to_string();
    let path = format!("{CLIENT}/rooms/{room}/send/m.room.message/1");
    let (status, sent) = process::finish(server.begin("PUT", &path, Some(&token), &message));
    assert_eq!(status, 200, "{sent}");
    until("an answer", &|| {
        let (_, page) = server.get(&format!("{CLIENT}/rooms/{room}/messages?dir=b"), Some(&token));
        let mut events = page["chunk"].as_array().into_iter().flatten();
        events.any(|event| event["sender"] == "@casual-friend:localhost" && event["content"]["msgtype"] == "m.text")
    });
    assert!(server.terminate().success());
}

#[test]
fn s_143_metrics_are_not_public_and_name_nobody() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[]);
    let token = register(&server, "alice", "curiouser and curiouser");
    let (_, room) = server.post("/_matrix/client/v3/createRoom", Some(&token), &json!({}));
    let room_id = room["room_id"].as_str().unwrap();

    assert_eq!(server.get("/metrics", None).0, 404);
    let metrics = process::text(server.metrics, "/metrics");
    assert!(metrics.contains(r#"http_requests_total{listener="client",status="2xx"}"#), "{metrics}");
    assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
    for hidden in ["alice", room_id, &token, env!("CARGO_PKG_VERSION"), "SELECT"] {
        assert!(!metrics.contains(hidden), "{hidden:?} is in the metrics:\n{metrics}");
    }
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1_000, "{series} series after one user did two things");
}

#[test]
fn health_and_readiness_are_told_at_both_addresses() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[]);
    for address in [server.client, server.metrics] {
        assert!(process::text(address, "/health").ends_with(r#"{"status":"alive"}"#));
        assert!(process::text(address, "/ready").ends_with(r#"{"status":"ready"}"#));
    }
}

#[test]
fn both_doors_are_open_at_one_address_and_answer_in_matrix_s_way() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[("NUDGE_WELL_KNOWN__SERVER", "matrix.example:443")]);
    assert!(server.get("/_matrix/client/versions", None).1["versions"].is_array());
    assert_eq!(server.get("/_matrix/key/v2/server", None).1["server_name"], "localhost");
    assert_eq!(server.get("/.well-known/matrix/server", None).1["m.server"], "matrix.example:443");
    for path in ["/", "/_matrix/client/nonsense", "/_matrix/federation/nonsense", "/_matrix/key/nonsense"] {
        let (status, answer) = server.get(path, None);
        assert_eq!((status, &answer["errcode"]), (404, &json!("M_UNRECOGNIZED")), "{path}");
    }
}

#[test]
fn r_34_when_descriptors_run_out_others_wait_and_then_are_served() {
    const CONNECTIONS: usize = 300;
    let directory = TempDir::new().unwrap();
    let server = Nudge::start_with_descriptors(&directory, "-n 256");
    let mut hogs: Vec<TcpStream> = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.client).unwrap();
        stream.write_all(b"GET / HT").unwrap();
        hogs.push(stream);
    }
    std::thread::sleep(Duration::from_millis(300));
    drop(hogs);
    assert_eq!(server.get("/health", None).0, 200);
    let token = register(&server, "alice", "curiouser and curiouser");
    assert_eq!(server.get("/_matrix/client/v3/account/whoami", Some(&token)).0, 200);
}

#[test]
fn r_34_it_takes_all_descriptors_that_it_may_have() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start_with_descriptors(&directory, "-Sn 256; ulimit -Hn 512");
    let metrics = process::text(server.metrics, "/metrics");
    assert!(metrics.contains("\nprocess_max_fds 512\n"), "{metrics}");
}

#[test]
fn s_122_it_does_not_start_with_a_placeholder() {
    let directory = TempDir::new().unwrap();
    let variables = [("NUDGE_REGISTRATION__MODE", "token"), ("NUDGE_REGISTRATION__TOKEN", "changeme")];
    let output = nudge(&directory, &["serve"], &variables, "");
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("registration.token (from NUDGE_REGISTRATION__TOKEN): "), "{message}");
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let directory = TempDir::new().unwrap();
    let _server = Nudge::start(&directory, &[], &[]);
    let output = nudge(&directory, &["serve", "--listen", "127.0.0.1:0"], &[], "");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && message.contains("in use by another nudge"), "{message}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &[], &[]);
    let other = TempDir::new().unwrap();
    let output = nudge(&other, &["--listen", &server.client.to_string()], &[], "");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&format!("listen = {}", server.client)), "{message}");
}

#[test]
fn what_scripts_ask_for_does_not_hide_what_administrators_do() {
    let directory = TempDir::new().unwrap();
    let variables = [("NUDGE_REGISTRATION__SHARED_SECRET", "a secret for scripts to use")];
    let server = Nudge::start(&directory, &[], &variables);
    let token = register(&server, "alice", "curiouser and curiouser");
    let (status, answer) = server.get("/_synapse/admin/v1/register", None);
    assert!(status == 200 && answer["nonce"].is_string(), "{answer}");
    let (status, answer) = server.post("/_synapse/admin/v1/send_server_notice", Some(&token), &json!({}));
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")), "{answer}");
}
