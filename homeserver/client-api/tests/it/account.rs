//! What an account has: devices, a profile, data of its own, filters.

use axum::http::Method;
use engine::AccountSettings;
use serde_json::json;

use crate::{
    interactive::password,
    server::{PASSWORD, Setup, TestServer, login},
};

#[tokio::test]
async fn what_the_server_says_of_itself() {
    let server =
        TestServer::start_as(Setup { well_known: Some("https://matrix.example.org"), ..Setup::default() }).await;
    let well_known = server.get("/.well-known/matrix/client").await.ok();
    assert_eq!(well_known, json!({ "m.homeserver": { "base_url": "https://matrix.example.org" } }));
    TestServer::start().await.get("/.well-known/matrix/client").await.assert_error(404, "M_NOT_FOUND");
    let versions = server.get("/_matrix/client/versions").await.ok();
    assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.17")));
    assert_eq!(versions["unstable_features"]["org.matrix.msc4140"], true);
    assert_eq!(versions["unstable_features"]["org.matrix.msc4222"], true);
    let alice = server.register("alice").await;
    let capabilities = server.get_as(&alice, "/_matrix/client/v3/capabilities").await.ok();
    let versions = &capabilities["capabilities"]["m.room_versions"];
    assert_eq!(versions["default"], "11");
    assert_eq!(versions["available"]["12"], "stable");
    assert_eq!(capabilities["capabilities"]["m.3pid_changes"]["enabled"], false);
    assert_eq!(capabilities["capabilities"]["m.change_password"]["enabled"], true);
}

#[tokio::test]
async fn the_operator_says_how_long_passwords_are() {
    let accounts = AccountSettings { password_characters_min: 12, ..AccountSettings::default() };
    let server = TestServer::start_as(Setup { accounts, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v3/account/password";
    let change = |new: &str| json!({ "new_password": new, "auth": password(&alice.user_id) });
    server.post_as(&alice, path, change("elevenchars")).await.assert_error(400, "M_WEAK_PASSWORD");
    server.post_as(&alice, path, change("twelve chars")).await.ok();
}

#[tokio::test]
async fn devices_are_named_and_deleted() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let phone = server.log_in("alice").await;
    let path = format!("/_matrix/client/v3/devices/{}", phone.device_id);
    server.put_as(&alice, &path, json!({ "display_name": "Phone" })).await.ok();
    server.put_as(&alice, &path, json!({})).await.ok();
    assert_eq!(server.get_as(&alice, &path).await.ok()["display_name"], "Phone", "who gives no name changes none");
    server.put_as(&alice, "/_matrix/client/v3/devices/NONE", json!({})).await.assert_error(404, "M_NOT_FOUND");
    let devices = server.get_as(&alice, "/_matrix/client/v3/devices").await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
    let delete = |body| {
        let path = path.clone();
        let token = alice.token.clone();
        async { server.send(Method::DELETE, &{ path }, Some(&{ token }), &{ body }).await }
    };
    assert_eq!(delete(json!({})).await.status, 401);
    server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.ok();
    delete(json!({ "auth": password(&alice.user_id) })).await.ok();
    server.get_as(&phone, "/_matrix/client/v3/account/whoami").await.assert_error(401, "M_UNKNOWN_TOKEN");
    server.get_as(&alice, &path).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_deactivated_account_is_gone() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let body = json!({ "auth": password(&alice.user_id) });
    let reply = server.post_as(&alice, "/_matrix/client/v3/account/deactivate", body).await.ok();
    assert_eq!(reply, json!({ "id_server_unbind_result": "success" }));
    assert_eq!(server.get_as(&alice, "/_matrix/client/v3/account/whoami").await.status, 401);
    server.post("/_matrix/client/v3/login", login("alice", PASSWORD)).await.assert_error(403, "M_FORBIDDEN");
    let body = json!({ "username": "alice", "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
    server.post("/_matrix/client/v3/register", body).await.assert_error(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn profiles_are_set_by_their_owners_and_read_by_all() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("/_matrix/client/v3/profile/{}", alice.user_id);
    server.put_as(&alice, &format!("{path}/displayname"), json!({ "displayname": "Alice" })).await.ok();
    let avatar = json!({ "avatar_url": "mxc://example.org/alice" });
    server.put_as(&alice, &format!("{path}/avatar_url"), avatar.clone()).await.ok();
    assert_eq!(server.get(&format!("{path}/displayname")).await.ok(), json!({ "displayname": "Alice" }));
    assert_eq!(server.get(&format!("{path}/avatar_url")).await.ok(), avatar);
    let whole = json!({ "displayname": "Alice", "avatar_url": "mxc://example.org/alice" });
    assert_eq!(server.get(&path).await.ok(), whole);
    server.get("/_matrix/client/v3/profile/@nobody:example.org").await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn account_data_and_filters_come_back_as_they_went_in() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let user = format!("/_matrix/client/v3/user/{}", alice.user_id);
    let room = format!("{user}/rooms/{}", server.private_room(&alice).await);
    for place in [&user, &room] {
        let path = format!("{place}/account_data/org.example.colour");
        server.get_as(&alice, &path).await.assert_error(404, "M_NOT_FOUND");
        server.put_as(&alice, &path, json!({ "colour": "blue" })).await.ok();
        assert_eq!(server.get_as(&alice, &path).await.ok(), json!({ "colour": "blue" }));
        for managed in ["m.fully_read", "m.push_rules"] {
            let path = format!("{place}/account_data/{managed}");
            server.put_as(&alice, &path, json!({})).await.assert_error(405, "M_BAD_JSON");
        }
    }
    let filter = json!({ "room": { "timeline": { "limit": 10, "types": ["m.room.message"] } } });
    let created = server.post_as(&alice, &format!("{user}/filter"), filter.clone()).await.ok();
    let path = format!("{user}/filter/{}", created["filter_id"].as_str().unwrap());
    assert_eq!(server.get_as(&alice, &path).await.ok(), filter);
    server.get_as(&alice, &format!("{user}/filter/99")).await.assert_error(404, "M_NOT_FOUND");
    let sync = server.get_as(&alice, "/_matrix/client/v3/sync?filter=99").await;
    assert!([400, 404].contains(&sync.status), "{}", sync.text);
}

#[tokio::test]
async fn push_rules_are_the_default_ones() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let all = server.get_as(&alice, "/_matrix/client/v3/pushrules/").await.ok();
    let global = server.get_as(&alice, "/_matrix/client/v3/pushrules/global/").await.ok();
    assert_eq!(all["global"], global);
    let rules = global["underride"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["rule_id"] == ".m.rule.message"));
}

#[tokio::test]
async fn s_111_what_the_erased_sent_is_shown_to_those_who_were_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let profile = format!("/_matrix/client/v3/profile/{}", alice.user_id);
    server.put_as(&alice, &format!("{profile}/displayname"), json!({ "displayname": "Alice" })).await.ok();
    let body = json!({ "preset": "public_chat" });
    let created = server.post_as(&bob, "/_matrix/client/v3/createRoom", body).await.ok();
    let room = format!("/_matrix/client/v3/rooms/{}", created["room_id"].as_str().unwrap());
    server.post_as(&alice, &format!("{room}/join"), json!({})).await.ok();
    server.say(&alice, created["room_id"].as_str().unwrap(), "1", "sesame").await;
    let carol = server.register("carol").await;
    server.post_as(&carol, &format!("{room}/join"), json!({})).await.ok();
    let messages = format!("{room}/messages?dir=b&limit=50");
    assert!(server.get_as(&carol, &messages).await.text.contains("sesame"));
    let body = json!({ "auth": password(&alice.user_id), "erase": true });
    server.post_as(&alice, "/_matrix/client/v3/account/deactivate", body).await.ok();
    assert!(!server.get_as(&carol, &messages).await.text.contains("sesame"));
    assert!(server.get_as(&bob, &messages).await.text.contains("sesame"), "bob was there");
    assert_eq!(server.get(&profile).await.ok(), json!({}));
    let member = server.get_as(&bob, &format!("{room}/state/m.room.member/{}", alice.user_id)).await.ok();
    assert_eq!((&member["membership"], member.get("displayname")), (&json!("leave"), None));
}
