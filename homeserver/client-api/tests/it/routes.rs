//! Walks along the route table, so that no endpoint is forgotten.

use std::collections::{HashMap, HashSet};

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request},
};
use homeserver_client_api::{Authentication, Route, route_table};
use serde_json::json;

use crate::server::{Reply, Session, TestServer, encode, fill};

/// Well-formed values for all parameters, of things that need not exist.
pub(crate) fn values(user: &Session) -> HashMap<&'static str, String> {
    HashMap::from([
        ("user_id", user.user_id.clone()),
        ("device_id", user.device_id.clone()),
        ("room_id", "!nothing:example.org".to_owned()),
        ("room_alias", "#nothing:example.org".to_owned()),
        ("room_id_or_alias", "!nothing:example.org".to_owned()),
        ("event_id", "$acR1l0raoZnm60CBwAVgqbZqoO_mYU81xysh1u7XcJk".to_owned()),
        ("event_type", "m.room.message".to_owned()),
        ("state_key", "key".to_owned()),
        ("receipt_type", "m.read".to_owned()),
        ("filter_id", "0".to_owned()),
        ("txn_id", "t".to_owned()),
        ("session_id", "s".to_owned()),
        ("version", "1".to_owned()),
        ("field", "displayname".to_owned()),
        ("auth_type", "m.login.dummy".to_owned()),
        ("protocol", "irc".to_owned()),
        ("rel_type", "m.thread".to_owned()),
        ("tag", "m.favourite".to_owned()),
        ("delay_id", "d".to_owned()),
        ("action", "cancel".to_owned()),
        ("report_id", "1".to_owned()),
        ("network_id", "irc".to_owned()),
        ("appservice_id", "irc".to_owned()),
        ("kind", "override".to_owned()),
        ("rule_id", "rule".to_owned()),
        ("server_name", "example.org".to_owned()),
        ("media_id", "nothing".to_owned()),
        ("filename", "nothing.png".to_owned()),
    ])
}

fn with_token() -> impl Iterator<Item = Route> {
    route_table().into_iter().filter(|route| route.authentication == Authentication::AccessToken)
}

fn assert_cors(headers: &HeaderMap, context: &str) {
    assert_eq!(headers["access-control-allow-origin"], "*", "{context}");
    assert_eq!(headers["access-control-allow-methods"], "GET, POST, PUT, DELETE, OPTIONS", "{context}");
    assert_eq!(headers["access-control-allow-headers"], "X-Requested-With, Content-Type, Authorization", "{context}");
}

fn raw(method: &Method, path: &str, user: &Session) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {}", user.token))
}

#[tokio::test]
async fn s_108_nothing_without_a_valid_token() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let values = values(&alice);
    for route in with_token() {
        for path in &route.paths {
            let path = fill(path, &values);
            let context = format!("{} {path}", route.method);
            let reply = server.send(route.method.clone(), &path, None, &json!({})).await;
            assert_eq!((reply.status, reply.errcode()), (401, "M_MISSING_TOKEN"), "{context}: {}", reply.text);
            assert_cors(&reply.headers, &context);
            for wrong in ["nda_0123456789012345678901234567890123456789", &alice.token[1..], &alice.device_id] {
                let reply = server.send(route.method.clone(), &path, Some(wrong), &json!({})).await;
                assert_eq!((reply.status, reply.errcode()), (401, "M_UNKNOWN_TOKEN"), "{context}: {}", reply.text);
            }
        }
    }
}

/// The rows that the walk above leaves out: what is open is open to whoever has no token, and what takes one takes no
/// wrong one.
#[tokio::test]
async fn s_108_what_needs_no_token() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let values = values(&alice);
    let others: Vec<Route> =
        route_table().into_iter().filter(|route| route.authentication != Authentication::AccessToken).collect();
    assert_eq!(others.len() + with_token().count(), route_table().len());
    for route in others {
        for path in &route.paths {
            let path = fill(path, &values);
            let context = format!("{} {path}", route.method);
            let reply = server.send(route.method.clone(), &path, None, &json!({})).await;
            assert!(reply.status < 500 && reply.errcode() != "M_UNRECOGNIZED", "{context}: {}", reply.text);
            assert_cors(&reply.headers, &context);
            let wrong = Some("nda_0123456789012345678901234567890123456789");
            let with_wrong = server.send(route.method.clone(), &path, wrong, &json!({})).await;
            if route.authentication == Authentication::Optional {
                assert_eq!(with_wrong.errcode(), "M_UNKNOWN_TOKEN", "{context}: {}", with_wrong.text);
            } else {
                assert_ne!(reply.errcode(), "M_MISSING_TOKEN", "{context}: {}", reply.text);
                assert_eq!(with_wrong.status, reply.status, "{context}: {}", with_wrong.text);
            }
        }
    }
}

#[tokio::test]
async fn s_108_nothing_in_the_name_of_another_user() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut walked = 0;
    for route in with_token().filter(|route| !route.of_others) {
        for path in route.paths.iter().filter(|path| path.contains("{user_id}")) {
            let path = fill(path, &values(&alice));
            let body = json!({ "displayname": "Mallory", "avatar_url": "mxc://example.org/m", "typing": false, "locked": true, "suspended": true });
            let reply = server.send(route.method.clone(), &path, Some(&bob.token), &body).await;
            assert_eq!(
                (reply.status, reply.errcode()),
                (403, "M_FORBIDDEN"),
                "{} {path}: {}",
                route.method,
                reply.text
            );
            walked += 1;
        }
    }
    assert!(walked >= 18, "{walked}");
    let profile = server.get(&format!("/_matrix/client/v3/profile/{}", alice.user_id)).await.ok();
    assert_ne!(profile["displayname"], "Mallory");
}

#[tokio::test]
async fn s_108_a_device_of_another_user_is_not_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    server.get_as(&bob, &path).await.assert_error(404, "M_NOT_FOUND");
    server.put_as(&bob, &path, json!({ "display_name": "Mine" })).await.assert_error(404, "M_NOT_FOUND");
    let body = json!({ "devices": [alice.device_id], "auth": crate::interactive::password(&bob.user_id) });
    server.post_as(&bob, "/_matrix/client/v3/delete_devices", body).await.ok();
    assert_eq!(server.get_as(&alice, &path).await.ok()["device_id"], alice.device_id);
}

#[tokio::test]
async fn s_101_wrong_methods_and_unknown_paths() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let mut methods: HashMap<&str, HashSet<Method>> = HashMap::new();
    for route in route_table() {
        for path in route.paths {
            methods.entry(path).or_default().insert(route.method.clone());
        }
    }
    for (path, served) in methods {
        let path = fill(path, &values(&alice));
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            if served.contains(&method) {
                continue;
            }
            let reply = server.send(method.clone(), &path, Some(&alice.token), &json!({})).await;
            let context = format!("{method} {path}");
            assert_eq!((reply.status, reply.errcode()), (405, "M_UNRECOGNIZED"), "{context}: {}", reply.text);
            assert_cors(&reply.headers, &context);
        }
        let reply = server.request(Request::options(&path).body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 204, "OPTIONS {path}");
        assert_cors(&reply.headers, &path);
    }
    for path in ["/", "/_matrix/client/v3/nothing", "/_matrix/client/v4/login", "/_synapse/admin/v1/users"] {
        let reply = server.send(Method::GET, path, Some(&alice.token), &json!({})).await;
        reply.assert_error(404, "M_UNRECOGNIZED");
        assert_cors(&reply.headers, path);
    }
}

#[tokio::test]
async fn s_102_paths_are_taken_as_they_are() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let elsewhere = [
        "//_matrix/client/versions",
        "/_matrix//client/versions",
        "/_matrix/./client/versions",
        "/_matrix/client/../client/versions",
        "/_matrix/client/%76ersions",
        "/_matrix%2Fclient/versions",
        "/_matrix/client/versions/",
        "/_matrix/client/versions;x",
        "/_matrix/client/Versions",
        "/_MATRIX/client/versions",
        "/_matrix/client/v3/account/whoami/",
        "/_matrix/client/v3/account/whoami/more",
        "/_matrix/client/v3/extra/account/whoami",
        "/_matrix/client/v3/rooms//state",
    ];
    for path in elsewhere {
        server.get_as(&alice, path).await.assert_error(404, "M_UNRECOGNIZED");
    }
    // A slash inside a parameter is part of it.
    let path = |name: &str| format!("/_matrix/client/v3/user/{}/account_data/{name}", encode(&alice.user_id));
    server.put_as(&alice, &path("a%2Fb%2F..%2Fc"), json!({ "value": 1 })).await.ok();
    assert_eq!(server.get_as(&alice, &path("a%2Fb%2F..%2Fc")).await.ok()["value"], 1);
    server.get_as(&alice, &path("a/b/../c")).await.assert_error(404, "M_UNRECOGNIZED");
    server.get_as(&alice, &path("a%2Fc")).await.assert_error(404, "M_NOT_FOUND");
    // The one slash that may be there or not.
    let room_id = server.private_room(&alice).await;
    for end in ["m.room.name", "m.room.name/"] {
        let path = format!("/_matrix/client/v3/rooms/{}/state/{end}", encode(&room_id));
        assert_eq!(server.get_as(&alice, &path).await.ok()["name"], "Plans");
    }
}

#[tokio::test]
async fn s_106_token_shapes() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let token = &alice.token;
    let whoami = |header: Option<String>, query: String| {
        let mut request = Request::get(format!("/_matrix/client/v3/account/whoami{query}"));
        if let Some(header) = header {
            request = request.header("Authorization", header);
        }
        let request = request.body(Body::empty()).unwrap();
        async { server.request(request).await }
    };
    assert_eq!(whoami(Some(format!("Bearer {token}")), String::new()).await.ok()["user_id"], alice.user_id);
    assert_eq!(whoami(None, format!("?access_token={token}")).await.ok()["user_id"], alice.user_id);
    let refused = [
        (None, String::new()),
        (None, "?access_token=".to_owned()),
        (None, format!("?access_token={token}%00")),
        (None, format!("?access_token={token}&access_token={token}")),
        (Some("Bearer ".to_owned()), String::new()),
        (Some(format!("Bearer  {token}")), String::new()),
        (Some(format!("bearer {token}")), String::new()),
        (Some(format!("Basic {token}")), String::new()),
        (Some(token.clone()), String::new()),
        (Some(format!("Bearer {token}")), format!("?access_token={token}")),
        (Some(format!("Bearer {}", "a".repeat(1024 * 1024))), String::new()),
    ];
    for (header, query) in refused {
        let reply: Reply = whoami(header.clone(), query.clone()).await;
        assert_eq!(reply.status, 401, "{header:?} {query}");
    }
}

#[tokio::test]
async fn s_100_and_s_104_every_body_is_a_json_object_of_bounded_size() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    for route in route_table().into_iter().filter(|route| route.method != Method::GET && !route.takes_file) {
        for path in &route.paths {
            let path = fill(path, &values(&alice));
            let context = format!("{} {path}", route.method);
            let bodies = [
                ("{oops", 400, "M_NOT_JSON"),
                ("{\"a\":\"\u{1}\"}", 400, "M_NOT_JSON"),
                ("[]", 400, "M_BAD_JSON"),
                ("null", 400, "M_BAD_JSON"),
                ("\"{}\"", 400, "M_BAD_JSON"),
            ];
            for (body, status, errcode) in bodies {
                let reply = server.request(raw(&route.method, &path, &alice).body(Body::from(body)).unwrap()).await;
                assert_eq!((reply.status, reply.errcode()), (status, errcode), "{context} {body}: {}", reply.text);
            }
            let multipart = raw(&route.method, &path, &alice).header("Content-Type", "Multipart/Form-Data; boundary=x");
            let reply = server.request(multipart.body(Body::from("--x--")).unwrap()).await;
            assert_eq!(reply.status, 415, "{context}: {}", reply.text);
            let huge = raw(&route.method, &path, &alice).header("Content-Length", "1000000000");
            let reply = server.request(huge.body(Body::from("{}")).unwrap()).await;
            assert_eq!((reply.status, reply.errcode()), (413, "M_TOO_LARGE"), "{context}: {}", reply.text);
        }
    }
    let large = json!({ "filler": "a".repeat(1024 * 1024) });
    let reply = server.post_as(&alice, "/_matrix/client/v3/createRoom", large).await;
    reply.assert_error(413, "M_TOO_LARGE");
}
