//! Who may get an account.

use engine::Registration;
use futures_util::future::join_all;
use serde_json::{Value, json};
use storage::RegistrationToken;

use crate::server::{PASSWORD, Setup, TestServer};

const PATHS: [&str; 2] = ["/_matrix/client/r0/register", "/_matrix/client/v3/register"];

async fn server(registration: Registration) -> TestServer {
    TestServer::start_as(Setup { registration, ..Setup::default() }).await
}

fn body(username: &str, auth: &Value) -> Value {
    json!({ "username": username, "password": PASSWORD, "auth": auth })
}

#[tokio::test]
async fn s_119_closed_is_closed_on_every_path() {
    let server = server(Registration::Closed).await;
    for path in PATHS {
        for auth in [
            json!(null),
            json!({ "type": "m.login.dummy" }),
            json!({ "type": "m.login.registration_token", "token": "" }),
        ] {
            for query in ["", "?kind=user"] {
                let reply = server.post(&format!("{path}{query}"), body("alice", &auth)).await;
                reply.assert_error(403, "M_FORBIDDEN");
            }
        }
        let guest = server.post(&format!("{path}?kind=guest"), json!({})).await;
        guest.assert_error(403, "M_GUEST_ACCESS_FORBIDDEN");
    }
    server.get("/_matrix/client/v3/register/available?username=alice").await.assert_error(403, "M_FORBIDDEN");
    let token = server.get("/_matrix/client/v1/register/m.login.registration_token/validity?token=t").await;
    token.assert_error(403, "M_FORBIDDEN");
    let login = crate::server::login("alice", PASSWORD);
    server.post("/_matrix/client/v3/login", login).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn s_119_open_still_asks_twice_and_guests_stay_out() {
    let server = server(Registration::Open).await;
    let path = "/_matrix/client/v3/register";
    let challenge = server.post(path, json!({ "username": "alice", "password": PASSWORD })).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    assert_eq!(challenge.body["params"], json!({}));
    let other = json!({ "type": "m.login.terms", "session": challenge.body["session"] });
    server.post(path, body("alice", &other)).await.assert_error(401, "M_FORBIDDEN");
    let auth = json!({ "type": "m.login.dummy", "session": challenge.body["session"] });
    let alice = server.post(path, body("alice", &auth)).await.ok();
    assert_eq!(alice["user_id"], "@alice:example.org");
    server.post(&format!("{path}?kind=guest"), json!({})).await.assert_error(403, "M_GUEST_ACCESS_FORBIDDEN");
    // Clients ask for the stages before the user has chosen a name.
    let challenge = server.post(path, json!({})).await;
    let auth = json!({ "type": "m.login.dummy", "session": challenge.body["session"] });
    let carol = server.post(path, body("carol", &auth)).await.ok();
    assert_eq!(carol["user_id"], "@carol:example.org");
    let profile = server.get("/_matrix/client/v3/profile/@carol:example.org").await.ok();
    assert_eq!(profile, json!({ "displayname": "carol" }), "until they choose another, people go by their user names");
    server.post(path, body("dave", &auth)).await.assert_error(401, "M_FORBIDDEN");
    let mut without_login = body("bob", &json!({ "type": "m.login.dummy" }));
    without_login["inhibit_login"] = json!(true);
    let bob = server.post(path, without_login).await.ok();
    assert_eq!((&bob["user_id"], bob.get("access_token")), (&json!("@bob:example.org"), None));
}

#[tokio::test]
async fn s_119_names_that_are_taken_or_malformed() {
    let server = server(Registration::Open).await;
    server.register("alice").await;
    for path in PATHS {
        for name in ["@x:evil.example", "@alice:example.org", "_bridge_bob", "b b", "b\u{e9}", ""] {
            let reply = server.post(path, body(name, &json!({ "type": "m.login.dummy" }))).await;
            assert_eq!((reply.status, reply.errcode()), (400, "M_INVALID_USERNAME"), "{name}: {}", reply.text);
        }
        for name in ["alice", "Alice"] {
            let taken = server.post(path, body(name, &json!({ "type": "m.login.dummy" }))).await;
            taken.assert_error(400, "M_USER_IN_USE");
        }
    }
    let available = "/_matrix/client/v3/register/available?username";
    server.get(&format!("{available}=alice")).await.assert_error(400, "M_USER_IN_USE");
    assert_eq!(server.get(&format!("{available}=bob")).await.ok(), json!({ "available": true }));
}

#[tokio::test]
async fn s_119_tokens_admit_and_nothing_else_does() {
    let server = server(Registration::Token).await;
    add_token(&server, "once", Some(1)).await;
    let path = "/_matrix/client/v3/register";
    let challenge = server.post(path, body("alice", &json!(null))).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    let wrong = [
        json!({ "type": "m.login.dummy" }),
        json!({ "type": "m.login.registration_token" }),
        json!({ "type": "m.login.registration_token", "token": "" }),
        json!({ "type": "m.login.registration_token", "token": "other" }),
        json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD }),
    ];
    for auth in wrong {
        let reply = server.post(path, body("alice", &auth)).await;
        assert_eq!((reply.status, reply.errcode()), (401, "M_FORBIDDEN"), "{auth}: {}", reply.text);
    }
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token";
    assert_eq!(server.get(&format!("{validity}=once")).await.ok(), json!({ "valid": true }));
    assert_eq!(server.get(&format!("{validity}=other")).await.ok(), json!({ "valid": false }));
    let auth = json!({ "type": "m.login.registration_token", "token": "once" });
    server.post(path, body("alice", &auth)).await.ok();
    server.post(path, body("bob", &auth)).await.assert_error(401, "M_FORBIDDEN");
    assert_eq!(server.get(&format!("{validity}=once")).await.ok(), json!({ "valid": false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn s_119_a_token_for_one_admits_one_of_a_hundred_at_once() {
    let server = server(Registration::Token).await;
    add_token(&server, "once", Some(1)).await;
    let auth = json!({ "type": "m.login.registration_token", "token": "once" });
    let attempts = (0..100).map(|index| {
        let body = body(&format!("user{index}"), &auth);
        server.post("/_matrix/client/v3/register", body)
    });
    let replies = join_all(attempts).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    assert!(replies.iter().all(|reply| [200, 401, 403].contains(&reply.status)));
}

async fn add_token(server: &TestServer, token: &str, uses_allowed: Option<u32>) {
    let token = RegistrationToken { token: token.to_owned(), uses_allowed, uses: 0, expires_ts: None };
    assert!(server.engine.storage().create_registration_token(&token).await.unwrap());
}
