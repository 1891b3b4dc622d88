//! Push rules over the door.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Session, TestServer};

const RULES: &str = "/_matrix/client/v3/pushrules";

async fn ids(server: &TestServer, user: &Session, kind: &str) -> Vec<String> {
    let rules = server.get_as(user, &format!("{RULES}/")).await.ok();
    let rules = rules["global"][kind].as_array().unwrap().clone();
    rules.iter().map(|rule| rule["rule_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rules_are_made_moved_changed_and_removed() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let all = server.get_as(&alice, RULES).await.ok();
    assert_eq!(server.get_as(&alice, &format!("{RULES}/global/")).await.ok(), all["global"]);
    for kind in ["override", "content", "room", "sender", "underride"] {
        assert!(all["global"][kind].is_array(), "{kind}");
    }
    let path = |rule: &str| format!("{RULES}/global/content/{rule}");
    let cake = json!({ "pattern": "cake", "actions": ["dont_notify"] });
    server.put_as(&alice, &path("cake"), cake.clone()).await.ok();
    server.put_as(&alice, &path("tea"), cake.clone()).await.ok();
    server.put_as(&alice, &format!("{}?after=cake", path("beer")), cake.clone()).await.ok();
    assert_eq!(ids(&server, &alice, "content").await, ["tea", "cake", "beer", ".m.rule.contains_user_name"]);
    server.put_as(&alice, &format!("{}?before=cake", path("beer")), cake.clone()).await.ok();
    assert_eq!(ids(&server, &alice, "content").await, ["tea", "beer", "cake", ".m.rule.contains_user_name"]);
    let rule = server.get_as(&alice, &path("cake")).await.ok();
    assert_eq!(
        rule,
        json!({ "rule_id": "cake", "default": false, "enabled": true, "pattern": "cake", "actions": ["dont_notify"] })
    );

    server.put_as(&alice, &format!("{}/enabled", path("cake")), json!({ "enabled": false })).await.ok();
    server.put_as(&alice, &format!("{}/actions", path("cake")), json!({ "actions": ["notify"] })).await.ok();
    assert_eq!(server.get_as(&alice, &format!("{}/enabled", path("cake"))).await.ok(), json!({ "enabled": false }));
    assert_eq!(
        server.get_as(&alice, &format!("{}/actions", path("cake"))).await.ok(),
        json!({ "actions": ["notify"] })
    );
    // Made anew it stays disabled.
    server.put_as(&alice, &path("cake"), cake).await.ok();
    assert_eq!(server.get_as(&alice, &path("cake")).await.ok()["enabled"], false);
    server.send(Method::DELETE, &path("cake"), Some(&alice.token), &json!({})).await.ok();
    for path in [path("cake"), format!("{}/enabled", path("cake")), format!("{}/actions", path("cake"))] {
        server.get_as(&alice, &path).await.assert_error(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn default_rules_can_be_changed_but_not_replaced() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let path = format!("{RULES}/global/override/.m.rule.master");
    server.put_as(&alice, &format!("{path}/enabled"), json!({ "enabled": true })).await.ok();
    assert_eq!(server.get_as(&alice, &path).await.ok()["enabled"], true);
    server.put_as(&alice, &path, json!({ "actions": [], "conditions": [] })).await.assert_error(400, "M_INVALID_PARAM");
    let removal = server.send(Method::DELETE, &path, Some(&alice.token), &json!({})).await;
    removal.assert_error(400, "M_INVALID_PARAM");
    let unknown = format!("{RULES}/global/override/nothing/enabled");
    server.put_as(&alice, &unknown, json!({ "enabled": true })).await.assert_error(404, "M_NOT_FOUND");
    let relative = format!("{RULES}/global/override/mine?before=nothing");
    server
        .put_as(&alice, &relative, json!({ "actions": [], "conditions": [] }))
        .await
        .assert_error(400, "M_INVALID_PARAM");
    let kind = format!("{RULES}/global/strange/mine");
    assert_eq!(server.put_as(&alice, &kind, json!({ "actions": [] })).await.status, 400);
    let poll =
        server.get_as(&alice, &format!("{RULES}/global/override/.org.matrix.msc3930.rule.poll_response")).await.ok();
    assert_eq!(poll["conditions"][0]["kind"], "event_match");
}

#[tokio::test]
async fn changes_come_down_sync() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let rules = |sync: &Value| {
        let events = sync["account_data"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().find(|event| event["type"] == "m.push_rules").map(|event| event["content"]["global"].clone())
    };
    let first = server.get_as(&alice, "/_matrix/client/v3/sync").await.ok();
    assert!(rules(&first).unwrap()["room"].as_array().unwrap().is_empty());
    let path = format!("{RULES}/global/room/!foo:example.com");
    server.put_as(&alice, &path, json!({ "actions": ["notify"] })).await.ok();
    let since = format!("/_matrix/client/v3/sync?since={}", first["next_batch"].as_str().unwrap());
    let second = server.get_as(&alice, &since).await.ok();
    assert_eq!(rules(&second).unwrap()["room"][0]["rule_id"], "!foo:example.com");
    let data = format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", alice.user_id);
    assert_eq!(server.get_as(&alice, &data).await.ok()["global"], rules(&second).unwrap());
    let listed = server.get_as(&alice, "/_matrix/client/v3/notifications?limit=5&only=highlight").await.ok();
    assert_eq!(listed, json!({ "notifications": [] }));
}
