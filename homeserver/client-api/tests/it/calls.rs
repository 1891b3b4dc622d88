//! What needs other services: calls by a relay, tokens for widgets, networks of application services, support.

use std::time::Duration;

use engine::{AccountSettings, Hidden, JwtAlgorithm, JwtSettings, TurnAccess, TurnSettings};
use homeserver_client_api::{Options, Support, Terms};
use serde_json::json;

use crate::{
    interactive,
    server::{PASSWORD, Setup, TestServer, encode},
};

#[tokio::test]
async fn the_relay_is_named_where_there_is_one() {
    let path = "/_matrix/client/v3/voip/turnServer";
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    assert_eq!(server.get_as(&alice, path).await.ok(), json!({}));
    let turn = TurnSettings {
        uris: vec!["turn:turn.example.org".to_owned()],
        access: TurnAccess::SharedSecret(Hidden("shared".to_owned())),
        lifetime_ms: 86_400_000,
    };
    let accounts = AccountSettings { turn: Some(turn), ..AccountSettings::default() };
    let server = TestServer::start_as(Setup { accounts, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let reply = server.get_as(&alice, path).await.ok();
    assert_eq!(reply["username"], "1700086400:@alice:example.org");
    assert_eq!((&reply["ttl"], &reply["uris"]), (&json!(86_400), &json!(["turn:turn.example.org"])));
    assert_eq!(reply["password"].as_str().unwrap().len(), 28);
}

#[tokio::test]
async fn s_125_a_token_for_others_is_no_token_for_us() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", encode(&alice.user_id));
    let reply = server.post_as(&alice, &path, json!({})).await.ok();
    assert_eq!((&reply["token_type"], &reply["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    assert_eq!(reply["matrix_server_name"], "example.org");
    let token = reply["access_token"].as_str().unwrap();
    let whoami = server.get(&format!("/_matrix/client/v3/account/whoami?access_token={token}")).await;
    whoami.assert_error(401, "M_UNKNOWN_TOKEN");
    assert_eq!(server.engine.open_id_user(token).await.unwrap(), *alice.user_id);
    assert!(server.engine.open_id_user(&alice.token).await.is_err());
    server.clock.advance(Duration::from_hours(1));
    assert!(server.engine.open_id_user(token).await.is_err(), "it has expired");
}

#[tokio::test]
async fn without_application_services_there_are_no_networks() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let get = async |path: &str| server.get_as(&alice, &format!("/_matrix/client/v3/thirdparty/{path}")).await;
    assert_eq!(get("protocols").await.ok(), json!({}));
    assert_eq!(get("location?alias=%23a%3Aexample.org").await.ok(), json!([]));
    assert_eq!(get("user?userid=%40a%3Aexample.org").await.ok(), json!([]));
    for path in ["protocol/irc", "location/irc", "user/irc"] {
        get(path).await.assert_error(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn support_is_named_where_the_operator_wants_it() {
    let path = "/.well-known/matrix/support";
    TestServer::start().await.get(path).await.assert_error(404, "M_NOT_FOUND");
    let support = Support {
        email: Some("admin@example.org".to_owned()),
        matrix_id: Some(ruma::owned_user_id!("@admin:example.org")),
        page: Some("https://example.org/help".to_owned()),
    };
    let options = Options { support, ..Options::default() };
    let server = TestServer::start_as(Setup { options, ..Setup::default() }).await;
    let contact =
        json!({ "role": "m.role.admin", "email_address": "admin@example.org", "matrix_id": "@admin:example.org" });
    let expected = json!({ "contacts": [contact], "support_page": "https://example.org/help" });
    assert_eq!(server.get(path).await.ok(), expected);
}

#[tokio::test]
async fn s_123_a_session_logs_in_another_once() {
    let accounts = AccountSettings { login_tokens: true, ..AccountSettings::default() };
    let server = TestServer::start_as(Setup { accounts, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v1/login/get_token";
    assert_eq!(server.post_as(&alice, path, json!({})).await.status, 401, "the password is needed");
    let auth = json!({ "auth": interactive::password(&alice.user_id) });
    let reply = server.post_as(&alice, path, auth.clone()).await.ok();
    assert_eq!(reply["expires_in_ms"], 120_000);
    let login = json!({ "type": "m.login.token", "token": reply["login_token"] });
    let session = server.post("/_matrix/client/v3/login", login.clone()).await.ok();
    assert_eq!(session["user_id"], alice.user_id);
    assert_ne!(session["device_id"], alice.device_id);
    server.post("/_matrix/client/v3/login", login).await.assert_error(403, "M_FORBIDDEN");
    let late = server.post_as(&alice, path, auth).await.ok();
    server.clock.advance(Duration::from_mins(2));
    let login = json!({ "type": "m.login.token", "token": late["login_token"] });
    server.post("/_matrix/client/v3/login", login).await.assert_error(403, "M_FORBIDDEN");
    let flows = server.get("/_matrix/client/v3/login").await.ok();
    assert_eq!(flows["flows"][1], json!({ "type": "m.login.token", "get_login_token": true }));
}

#[tokio::test]
async fn another_service_logs_users_in() {
    // {"alg":"HS256"} and {"sub":"Alice"}, signed with the secret below.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJBbGljZSJ9.cGwFot3ck4N9oeA5XR_ZEQvfLKQqRnH_8CMl3W4fN_Q";
    let jwt = JwtSettings {
        secret: Hidden("a secret of two".to_owned()),
        algorithm: JwtAlgorithm::Hs256,
        issuer: None,
        audience: None,
    };
    let login = |token: &str| json!({ "type": "org.matrix.login.jwt", "token": token });
    let server = TestServer::start().await;
    server.post("/_matrix/client/v3/login", login(token)).await.assert_error(400, "M_INVALID_PARAM");
    let accounts = AccountSettings { jwt: Some(jwt), ..AccountSettings::default() };
    let server = TestServer::start_as(Setup { accounts, ..Setup::default() }).await;
    let session = server.post("/_matrix/client/v3/login", login(token)).await.ok();
    assert_eq!(session["user_id"], "@alice:example.org");
    let again = server.post("/_matrix/client/v3/login", login(token)).await.ok();
    assert_eq!(again["user_id"], "@alice:example.org");
    let forged = token.replace("eyJzdWIiOiJBbGljZSJ9", "eyJzdWIiOiJCb2IifQ");
    server.post("/_matrix/client/v3/login", login(&forged)).await.assert_error(403, "M_FORBIDDEN");
    let by_password = crate::server::login("alice", PASSWORD);
    server.post("/_matrix/client/v3/login", by_password).await.assert_error(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn terms_are_accepted_before_an_account_is_made() {
    let terms =
        Terms { name: "Rules".to_owned(), url: "https://example.org/rules".to_owned(), version: "3".to_owned() };
    let options = Options { terms: Some(terms), ..Options::default() };
    let server = TestServer::start_as(Setup { options, ..Setup::default() }).await;
    let register = async |auth: serde_json::Value| {
        let mut body = json!({ "username": "alice", "password": PASSWORD });
        if !auth.is_null() {
            body["auth"] = auth;
        }
        server.post("/_matrix/client/v3/register", body).await
    };
    let challenge = register(json!(null)).await;
    assert_eq!(challenge.status, 401);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.terms"] }]));
    let policy = &challenge.body["params"]["m.login.terms"]["policies"]["terms_of_use"];
    assert_eq!(*policy, json!({ "version": "3", "en": { "name": "Rules", "url": "https://example.org/rules" } }));
    let session = challenge.body["session"].as_str().unwrap();
    register(json!({ "type": "m.login.dummy", "session": session })).await.assert_error(401, "M_FORBIDDEN");
    // In a browser, for a client that has no form of its own.
    let page = server.get(&format!("/_matrix/client/v3/auth/m.login.terms/fallback/web?session={session}")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("https://example.org/rules") && page.text.contains(session), "{}", page.text);
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(register(json!({ "session": session })).await.status, 401, "looking is not accepting");
    let form = axum::http::Request::post("/_nudge/client/v1/auth/m.login.terms");
    let done = server.request(form.body(format!("session={session}").into()).unwrap()).await;
    assert!(done.text.contains("onAuthDone"), "{}", done.text);
    let session = register(json!({ "session": session })).await.ok();
    assert_eq!(session["user_id"], "@alice:example.org");
    let unknown = server.get("/_matrix/client/v3/auth/m.login.terms/fallback/web?session=nothing").await;
    unknown.assert_error(400, "M_INVALID_PARAM");
}
