//! Application services: who they speak for, and what they are sent.

use axum::http::Method;
use fake_service::{Behaviour, FakeService};
use serde_json::{Value, json};

use crate::server::{PASSWORD, Reply, Setup, TestServer, encode, login};

pub(crate) const AS_TOKEN: &str = "as-token-of-the-bridge";
pub(crate) const HS_TOKEN: &str = "hs-token-of-the-bridge";

/// A registration with a namespace of users and of aliases, and more lines.
pub(crate) fn registration(id: &str, url: &str, more: &str) -> String {
    format!(
        "id: {id}\nurl: {url}\nas_token: {AS_TOKEN}-{id}\nhs_token: {HS_TOKEN}\nsender_localpart: {id}bot\nnamespaces:\n  \
         users:\n  - {{regex: '@_{id}_.*', exclusive: true}}\n  aliases:\n  - {{regex: '#_{id}_.*', exclusive: true}}\n\
         {more}\n"
    )
}

/// A server with the service `irc`.
pub(crate) async fn with_bridge(more: &str) -> (TestServer, FakeService) {
    let service = FakeService::start(HS_TOKEN).await;
    let services = vec![registration("irc", &service.url(), more)];
    (TestServer::start_as(Setup { services, ..Setup::default() }).await, service)
}

/// The service asks, for a user or for its own.
pub(crate) async fn ask(server: &TestServer, method: Method, path: &str, user: Option<&str>, body: Value) -> Reply {
    let sign = if path.contains('?') { '&' } else { '?' };
    let path = user.map_or_else(|| path.to_owned(), |user| format!("{path}{sign}user_id={}", encode(user)));
    server.send(method, &path, Some(&format!("{AS_TOKEN}-irc")), &body).await
}

pub(crate) async fn make_user(server: &TestServer, name: &str) -> Reply {
    let body = json!({ "type": "m.login.application_service", "username": name, "inhibit_login": true });
    ask(server, Method::POST, "/_matrix/client/v3/register", None, body).await
}

#[tokio::test]
async fn s_107_who_a_service_may_be() {
    let (server, _service) = with_bridge("").await;
    // Nothing else stands there when nobody is logged in: `null` is no device.
    assert_eq!(make_user(&server, "_irc_bob").await.ok(), json!({ "user_id": "@_irc_bob:example.org" }));
    make_user(&server, "_irc_bob").await.assert_error(400, "M_USER_IN_USE");
    make_user(&server, "alice").await.assert_error(400, "M_EXCLUSIVE");
    make_user(&server, "_irc_UPPER").await.assert_error(400, "M_INVALID_USERNAME");

    let whoami = "/_matrix/client/v3/account/whoami";
    let who = async |user: Option<&str>| ask(&server, Method::GET, whoami, user, Value::Null).await;
    assert_eq!(who(None).await.ok(), json!({ "user_id": "@ircbot:example.org" }));
    assert_eq!(who(Some("@_irc_bob:example.org")).await.ok(), json!({ "user_id": "@_irc_bob:example.org" }));
    server.register("alice").await;
    for user in ["@alice:example.org", "@_irc_bob:evil.example", "@_irc_nobody:example.org", "@x_irc_bob:example.org"] {
        who(Some(user)).await.assert_error(403, "M_FORBIDDEN");
    }
    who(Some("bob")).await.assert_error(400, "M_INVALID_PARAM");

    // Tokens that are none, and none at all.
    for token in ["as-token-of-the-bridge", "as-token-of-the-bridge-ir", "as-token-of-the-bridge-ircx", HS_TOKEN] {
        server.send(Method::GET, whoami, Some(token), &Value::Null).await.assert_error(401, "M_UNKNOWN_TOKEN");
    }
    server.get("/_matrix/client/v3/account/whoami?access_token=").await.assert_error(401, "M_MISSING_TOKEN");
    let in_query = format!("{whoami}?access_token={AS_TOKEN}%2Dirc");
    server.get(&in_query).await.ok();
    let body = json!({ "type": "m.login.application_service", "username": "_irc_eve" });
    server.post("/_matrix/client/v3/register", body.clone()).await.assert_error(401, "M_MISSING_TOKEN");
    let alice = server.log_in("alice").await;
    server.post_as(&alice, "/_matrix/client/v3/register", body).await.assert_error(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn s_107_what_belongs_to_a_service_is_nobody_elses() {
    let (server, _service) = with_bridge("").await;
    for name in ["ircbot", "_irc_bob"] {
        let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        let refused = server.post("/_matrix/client/v3/register", body).await;
        assert!(["M_EXCLUSIVE", "M_INVALID_USERNAME"].contains(&refused.errcode()), "{}", refused.text);
    }
    server.get("/_matrix/client/v3/register/available?username=ircbot").await.assert_error(400, "M_EXCLUSIVE");

    let alice = server.register("alice").await;
    let room = server.private_room(&alice).await;
    let alias = format!("/_matrix/client/v3/directory/room/{}", encode("#_irc_tea:example.org"));
    server.put_as(&alice, &alias, json!({ "room_id": room })).await.assert_error(400, "M_EXCLUSIVE");
    let create = json!({ "room_alias_name": "_irc_tea" });
    server.post_as(&alice, "/_matrix/client/v3/createRoom", create.clone()).await.assert_error(400, "M_EXCLUSIVE");
    ask(&server, Method::POST, "/_matrix/client/v3/createRoom", None, create).await.ok();
    server.send(Method::DELETE, &alias, Some(&alice.token), &json!({})).await.assert_error(400, "M_EXCLUSIVE");
    ask(&server, Method::DELETE, &alias, None, json!({})).await.ok();
}

#[tokio::test]
async fn devices_and_logins_of_a_services_users() {
    let (server, _service) = with_bridge("io.element.msc4190: true").await;
    make_user(&server, "_irc_bob").await.ok();
    let bob = Some("@_irc_bob:example.org");
    let body = json!({
        "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": "_irc_bob" }
    });
    let session = ask(&server, Method::POST, "/_matrix/client/v3/login", None, body.clone()).await.ok();
    assert_eq!(session["user_id"], "@_irc_bob:example.org");
    server.post("/_matrix/client/v3/login", body).await.assert_error(401, "M_MISSING_TOKEN");
    let body = json!({ "type": "m.login.application_service", "user": "alice" });
    ask(&server, Method::POST, "/_matrix/client/v3/login", None, body).await.assert_error(400, "M_EXCLUSIVE");
    server.post("/_matrix/client/v3/login", login("_irc_bob", PASSWORD)).await.assert_error(403, "M_FORBIDDEN");

    let device = "/_matrix/client/v3/devices/BRIDGE";
    let made = ask(&server, Method::PUT, device, bob, json!({ "display_name": "Bridge" })).await;
    assert_eq!((made.status, made.body), (201, json!({})));
    assert_eq!(ask(&server, Method::PUT, device, bob, json!({})).await.ok(), json!({}));
    let shown = ask(&server, Method::GET, device, bob, Value::Null).await.ok();
    assert_eq!(shown["display_name"], "Bridge");
    let whoami = |name: &str| format!("/_matrix/client/v3/account/whoami?{name}=BRIDGE");
    for name in ["device_id", "org.matrix.msc3202.device_id"] {
        let who = ask(&server, Method::GET, &whoami(name), bob, Value::Null).await.ok();
        assert_eq!(who["device_id"], "BRIDGE");
    }
    let stranger = ask(&server, Method::GET, &whoami("device_id"), None, Value::Null).await;
    stranger.assert_error(400, "M_UNKNOWN_DEVICE");
    let upload = ask(&server, Method::POST, "/_matrix/client/v3/keys/upload", bob, json!({})).await;
    upload.assert_error(400, "M_MISSING_PARAM");
    // No confirmation is asked for.
    ask(&server, Method::DELETE, device, bob, json!({})).await.ok();
    ask(&server, Method::GET, device, bob, Value::Null).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn events_come_in_order_and_survive_what_a_service_does() {
    let (server, service) = with_bridge("").await;
    let alice = server.register("alice").await;
    let elsewhere = server.private_room(&alice).await;
    server.say(&alice, &elsewhere, "0", "not for the bridge").await;
    let room = server.private_room(&alice).await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    server.post_as(&alice, &invite, json!({ "user_id": "@ircbot:example.org" })).await.ok();
    let invited = service.wait_for_events(1).await;
    assert_eq!(invited[0]["state_key"], "@ircbot:example.org");
    assert_eq!(invited[0]["content"]["membership"], "invite");
    assert_eq!(invited[0]["room_id"], room.as_str());

    ask(&server, Method::POST, &format!("/_matrix/client/v3/rooms/{room}/join"), None, json!({})).await.ok();
    service.wait_for_events(2).await;
    for (number, behaviour) in
        [Behaviour::Refuse(500), Behaviour::LoseAnswer, Behaviour::Refuse(404)].iter().enumerate()
    {
        let before = service.attempts().len();
        service.behave(*behaviour);
        server.say(&alice, &room, &format!("a{number}"), &format!("a{number}")).await;
        service.wait_for_attempts(before + 1).await;
        server.say(&alice, &room, &format!("b{number}"), &format!("b{number}")).await;
        service.behave(Behaviour::Accept);
        service.wait_for_events(2 + 2 * (number + 1)).await;
    }
    let said: Vec<Value> = service.events()[2..].iter().map(|event| event["content"]["body"].clone()).collect();
    assert_eq!(said, ["a0", "b0", "a1", "b1", "a2", "b2"]);
    assert_eq!(service.violations(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_service_that_hangs_holds_up_no_other() {
    let (slow, quick) = (FakeService::start(HS_TOKEN).await, FakeService::start(HS_TOKEN).await);
    slow.behave(Behaviour::Hang);
    let services = vec![registration("slow", &slow.url(), ""), registration("irc", &quick.url(), "")];
    let server = TestServer::start_as(Setup { services, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let body = json!({ "invite": ["@slowbot:example.org", "@ircbot:example.org"] });
    server.post_as(&alice, "/_matrix/client/v3/createRoom", body).await.ok();
    quick.wait_for_events(1).await;
    slow.wait_for_attempts(1).await;
    assert_eq!(slow.attempts().len(), 1);
}

#[tokio::test]
async fn r_18_what_was_on_its_way_comes_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let service = FakeService::start(HS_TOKEN).await;
    service.behave(Behaviour::Refuse(502));
    let setup = || Setup {
        services: vec![registration("irc", &service.url(), "org.matrix.msc3202: true")],
        directory: Some(directory.path()),
        ..Setup::default()
    };
    {
        let server = TestServer::start_as(setup()).await;
        let alice = server.register("alice").await;
        let bot = "/_matrix/client/v3/devices/BOT";
        assert_eq!(ask(&server, Method::PUT, bot, None, json!({})).await.status, 201);
        let messages = json!({ "messages": { "@ircbot:example.org": { "BOT": { "number": 1 } } } });
        server.put_as(&alice, "/_matrix/client/v3/sendToDevice/m.test/1", messages).await.ok();
        service.wait_for_attempts(1).await;
    }
    let first = service.attempts()[0].0.clone();
    service.behave(Behaviour::Accept);
    let server = TestServer::start_as(setup()).await;
    service.wait_until("the message", |service| !service.all("to_device").is_empty()).await;
    assert_eq!(service.transactions()[0].id, first);
    let message = &service.all("to_device")[0];
    assert_eq!((&message["to_device_id"], &message["to_user_id"]), (&json!("BOT"), &json!("@ircbot:example.org")));
    assert_eq!(service.all("de.sorunome.msc2409.to_device"), std::slice::from_ref(message));
    // Another one comes alone.
    let alice = server.log_in("alice").await;
    let messages = json!({ "messages": { "@ircbot:example.org": { "*": { "number": 2 } } } });
    server.put_as(&alice, "/_matrix/client/v3/sendToDevice/m.test/2", messages).await.ok();
    service.wait_until("another one", |service| service.all("to_device").len() == 2).await;
    assert_eq!(service.all("to_device")[1]["content"], json!({ "number": 2 }));
    assert_eq!(service.violations(), [] as [&str; 0]);
    // The service has them: sync has not, as soon as the answer of the service is in.
    loop {
        let sync = ask(&server, Method::GET, "/_matrix/client/v3/sync?device_id=BOT", None, Value::Null).await.ok();
        if sync["to_device"]["events"] == Value::Null {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn ephemeral_events() {
    let (server, service) = with_bridge("receive_ephemeral: true").await;
    let alice = server.register("alice").await;
    let room = server.private_room(&alice).await;
    server
        .post_as(
            &alice,
            &format!("/_matrix/client/v3/rooms/{room}/invite"),
            json!({ "user_id": "@ircbot:example.org" }),
        )
        .await
        .ok();
    ask(&server, Method::POST, &format!("/_matrix/client/v3/rooms/{room}/join"), None, json!({})).await.ok();
    let event = server.say(&alice, &room, "1", "hello").await;
    service.wait_for_events(3).await;
    let typing = format!("/_matrix/client/v3/rooms/{room}/typing/{}", encode(&alice.user_id));
    server.put_as(&alice, &typing, json!({ "typing": true, "timeout": 20_000 })).await.ok();
    let of_type = |service: &FakeService, wanted: &str| {
        service.all("ephemeral").into_iter().filter(|event| event["type"] == wanted).collect::<Vec<_>>()
    };
    service.wait_until("typing", |service| !of_type(service, "m.typing").is_empty()).await;
    let expected = json!({ "type": "m.typing", "room_id": room, "content": { "user_ids": [alice.user_id] } });
    assert_eq!(of_type(&service, "m.typing")[0], expected);
    for kind in ["m.read.private", "m.read"] {
        let receipt = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{}", encode(&event));
        server.post_as(&alice, &receipt, json!({})).await.ok();
    }
    service.wait_until("a receipt", |service| !of_type(service, "m.receipt").is_empty()).await;
    let receipts = of_type(&service, "m.receipt");
    assert_eq!(receipts.len(), 1);
    assert!(receipts[0]["content"][&event]["m.read"][&alice.user_id]["ts"].is_number(), "{receipts:?}");
    let presence = format!("/_matrix/client/v3/presence/{}/status", encode(&alice.user_id));
    server.put_as(&alice, &presence, json!({ "presence": "online", "status_msg": "here" })).await.ok();
    let is_here = |event: &Value| event["content"]["status_msg"] == "here" && event["sender"] == alice.user_id.as_str();
    service.wait_until("presence", |service| of_type(service, "m.presence").iter().any(is_here)).await;
    assert_eq!(service.violations(), [] as [&str; 0]);
}

#[tokio::test]
async fn what_a_bridge_tells_of_bears_the_time_when_it_happened() {
    let (server, service) = with_bridge("").await;
    let created = ask(&server, Method::POST, "/_matrix/client/v3/createRoom", None, json!({})).await.ok();
    let room = created["room_id"].as_str().unwrap();
    let path = |rest: &str| format!("/_matrix/client/v3/rooms/{room}/{rest}");
    let body = json!({ "msgtype": "m.text", "body": "long ago" });
    let sent = ask(&server, Method::PUT, &path("send/m.room.message/1?ts=1000"), None, body.clone()).await.ok();
    // The same again is the same, though it seems to be old.
    let again = ask(&server, Method::PUT, &path("send/m.room.message/1?ts=1000"), None, body.clone()).await.ok();
    assert_eq!(sent, again);
    ask(&server, Method::PUT, &path("state/m.room.topic/?ts=2000"), None, json!({ "topic": "past" })).await.ok();
    for ts in ["-1", "9007199254740992", "now", ""] {
        let wrong =
            ask(&server, Method::PUT, &path(&format!("send/m.room.message/2?ts={ts}")), None, body.clone()).await;
        wrong.assert_error(400, "M_INVALID_PARAM");
    }
    service
        .wait_until("the topic", |service| service.events().iter().any(|event| event["type"] == "m.room.topic"))
        .await;
    let times = service.events().into_iter().filter(|event| event["origin_server_ts"].as_u64() < Some(10_000));
    let times: Vec<Value> = times.map(|event| event["origin_server_ts"].clone()).collect();
    assert_eq!(times, [1000, 2000]);
    // Of memberships too: `/kick` and the like take no time, this does.
    make_user(&server, "_irc_bob").await.ok();
    let bob = "@_irc_bob:example.org";
    let member = path(&format!("state/m.room.member/{}", encode(bob)));
    for (ts, asker, membership) in [
        (3000, None, "invite"),
        (3001, Some(bob), "join"),
        (3002, Some(bob), "join"),
        (3003, Some(bob), "leave"),
        (3004, None, "ban"),
        (3005, None, "leave"),
        (3006, None, "invite"),
        (3007, Some(bob), "leave"),
        (3008, None, "invite"),
        (3009, Some(bob), "join"),
        (3010, None, "leave"),
    ] {
        let content = json!({ "membership": membership, "displayname": format!("Bob {ts}") });
        let answer = ask(&server, Method::PUT, &format!("{member}?ts={ts}"), asker, content).await.ok();
        let event = path(&format!("event/{}", encode(answer["event_id"].as_str().unwrap())));
        let event = ask(&server, Method::GET, &event, None, Value::Null).await.ok();
        assert_eq!((&event["origin_server_ts"], &event["content"]["membership"]), (&json!(ts), &json!(membership)));
    }
    // Nobody else may do that.
    let alice = server.register("alice").await;
    let own = server.private_room(&alice).await;
    let path = format!("/_matrix/client/v3/rooms/{own}/send/m.room.message/1?ts=1000");
    let event = server.put_as(&alice, &path, body).await.ok();
    let path = format!("/_matrix/client/v3/rooms/{own}/event/{}", encode(event["event_id"].as_str().unwrap()));
    assert!(server.get_as(&alice, &path).await.ok()["origin_server_ts"].as_u64() > Some(10_000));
}

#[tokio::test]
async fn users_and_aliases_are_asked_for_before_they_are_missing() {
    let (server, service) = with_bridge("").await;
    let router = std::sync::Arc::new(server.router.clone());
    let make = move |name: String| {
        let router = std::sync::Arc::clone(&router);
        Box::pin(async move {
            let (path, body) = match name.strip_prefix("@_irc_bob") {
                Some(_) => (
                    "register",
                    json!({ "type": "m.login.application_service", "username": "_irc_bob", "inhibit_login": true }),
                ),
                None if name.starts_with("#_irc_tea") => {
                    ("createRoom", json!({ "room_alias_name": "_irc_tea", "preset": "public_chat" }))
                }
                None => return false,
            };
            let request = axum::http::Request::post(format!("/_matrix/client/v3/{path}"))
                .header("Authorization", format!("Bearer {AS_TOKEN}-irc"));
            let request = request.body(axum::body::Body::from(body.to_string())).unwrap();
            tower::ServiceExt::oneshot((*router).clone(), request).await.unwrap().status() == 200
        }) as futures_util::future::BoxFuture<'static, bool>
    };
    service.on_query(std::sync::Arc::new(make));
    let alice = server.register("alice").await;
    let join = |alias: &str| format!("/_matrix/client/v3/join/{}", encode(alias));
    server.post_as(&alice, &join("#_irc_tea:example.org"), json!({})).await.ok();
    server.post_as(&alice, &join("#_irc_none:example.org"), json!({})).await.assert_error(404, "M_NOT_FOUND");
    server.post_as(&alice, &join("#other:example.org"), json!({})).await.assert_error(404, "M_NOT_FOUND");
    let profile = |user: &str| format!("/_matrix/client/v3/profile/{}", encode(user));
    server.get_as(&alice, &profile("@_irc_nobody:example.org")).await.assert_error(404, "M_NOT_FOUND");
    server.get_as(&alice, &profile("@_irc_bob:example.org")).await.ok();
    let asked = [
        "GET /_matrix/app/v1/rooms/%23_irc_tea:example.org",
        "GET /_matrix/app/v1/rooms/%23_irc_none:example.org",
        "GET /_matrix/app/v1/users/@_irc_nobody:example.org",
        "GET /_matrix/app/v1/users/@_irc_bob:example.org",
    ];
    assert_eq!(service.others(), asked);
    assert_eq!(service.violations(), [] as [&str; 0]);
}

#[tokio::test]
async fn pings_and_why_they_fail() {
    let (server, service) = with_bridge("").await;
    let ping = async |id: &str| {
        let path = format!("/_matrix/client/v1/appservice/{id}/ping");
        ask(&server, Method::POST, &path, None, json!({ "transaction_id": "meow" })).await
    };
    service.answer("POST /_matrix/app/v1/ping", 200, json!({}));
    assert!(ping("irc").await.ok()["duration_ms"].is_u64());
    ping("other").await.assert_error(403, "M_FORBIDDEN");
    service.answer("POST /_matrix/app/v1/ping", 401, json!({ "errcode": "M_UNKNOWN_TOKEN" }));
    let refused = ping("irc").await;
    refused.assert_error(502, "M_BAD_STATUS");
    assert_eq!(
        (&refused.body["status"], &refused.body["body"]),
        (&json!(401), &json!(r#"{"errcode":"M_UNKNOWN_TOKEN"}"#))
    );
    // Nothing listens at this port.
    let gone = vec![registration("irc", "http://127.0.0.1:1", "")];
    let gone = TestServer::start_as(Setup { services: gone, ..Setup::default() }).await;
    let unreached = ask(&gone, Method::POST, "/_matrix/client/v1/appservice/irc/ping", None, json!({})).await;
    unreached.assert_error(502, "M_CONNECTION_FAILED");
    let alice = server.register("alice").await;
    let by_user = server.post_as(&alice, "/_matrix/client/v1/appservice/irc/ping", json!({})).await;
    by_user.assert_error(403, "M_FORBIDDEN");
    let silent =
        TestServer::start_as(Setup { services: vec![registration("irc", "null", "")], ..Setup::default() }).await;
    let none = ask(&silent, Method::POST, "/_matrix/client/v1/appservice/irc/ping", None, json!({})).await;
    none.assert_error(400, "M_URL_NOT_SET");
}

#[tokio::test]
async fn networks_and_their_rooms() {
    let (irc, xmpp) = (FakeService::start(HS_TOKEN).await, FakeService::start(HS_TOKEN).await);
    let services = vec![
        registration("irc", &irc.url(), "protocols: [chat]"),
        registration("xmpp", &xmpp.url(), "protocols: [chat, xmpp]"),
    ];
    let server = TestServer::start_as(Setup { services, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let protocol = |network: &str| {
        json!({ "user_fields": [], "location_fields": [], "icon": "mxc://a/b", "field_types": {},
                "instances": [{ "network_id": network, "desc": network, "fields": {} }] })
    };
    let at = |rest: &str| format!("GET /_matrix/app/v1/thirdparty/{rest}");
    irc.answer(&at("protocol/chat"), 200, protocol("oftc"));
    xmpp.answer(&at("protocol/chat"), 200, protocol("jabber"));
    irc.answer(&at("location/chat?channel=%23tea"), 200, json!([{ "alias": "#_irc_tea:example.org" }]));
    xmpp.answer(&at("location/chat?channel=%23tea"), 500, json!({}));
    irc.answer(&at("user?userid=%40_irc_bob%3Aexample.org"), 200, json!([{ "userid": "@_irc_bob:example.org" }]));
    let get = async |rest: &str| server.get_as(&alice, &format!("/_matrix/client/v3/thirdparty/{rest}")).await;
    let protocols = get("protocols").await.ok();
    assert_eq!(
        protocols.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["chat"],
        "xmpp does not answer for its other one"
    );
    let instances: Vec<_> =
        protocols["chat"]["instances"].as_array().unwrap().iter().map(|one| &one["instance_id"]).collect();
    assert_eq!(instances, ["irc|oftc", "xmpp|jabber"]);
    assert_eq!(get("location/chat?channel=%23tea").await.ok(), json!([{ "alias": "#_irc_tea:example.org" }]));
    assert_eq!(
        get(&format!("user?userid={}", encode("@_irc_bob:example.org"))).await.ok().as_array().unwrap().len(),
        1
    );
    get("user/unknown").await.assert_error(404, "M_NOT_FOUND");

    let body = json!({ "preset": "public_chat", "name": "Tea" });
    let room = ask(&server, Method::POST, "/_matrix/client/v3/createRoom", None, body).await.ok()["room_id"].clone();
    let list = format!("/_matrix/client/v3/directory/list/appservice/oftc/{}", encode(room.as_str().unwrap()));
    server.put_as(&alice, &list, json!({ "visibility": "public" })).await.assert_error(403, "M_FORBIDDEN");
    ask(&server, Method::PUT, &list, None, json!({ "visibility": "public" })).await.ok();
    let found = async |body: Value| {
        let page = server.post_as(&alice, "/_matrix/client/v3/publicRooms", body).await.ok();
        page["chunk"].as_array().unwrap().len()
    };
    assert_eq!(found(json!({})).await, 0);
    assert_eq!(found(json!({ "include_all_networks": true })).await, 1);
    for (id, count) in [("irc|oftc", 1), ("oftc", 1), ("xmpp|oftc", 0), ("irc|libera", 0)] {
        assert_eq!(found(json!({ "third_party_instance_id": id })).await, count, "{id}");
    }
    ask(&server, Method::DELETE, &list, None, json!({})).await.ok();
    assert_eq!(found(json!({ "include_all_networks": true })).await, 0);
}

#[tokio::test]
async fn a_service_that_was_away_for_long_gets_everything_in_order() {
    const MISSED: usize = 1_000;
    let (server, service) = with_bridge("").await;
    let created = ask(&server, Method::POST, "/_matrix/client/v3/createRoom", None, json!({})).await.ok();
    let room = created["room_id"].as_str().unwrap();
    let is_made = |service: &FakeService| service.events().iter().any(|event| event["type"] == "m.room.guest_access");
    service.wait_until("the room", is_made).await;
    let before = service.events().len();
    service.behave(Behaviour::Refuse(503));
    for number in 0..MISSED {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
        ask(&server, Method::PUT, &path, None, json!({ "msgtype": "m.text", "body": number.to_string() })).await.ok();
    }
    let pings = async || ask(&server, Method::POST, "/_matrix/client/v1/appservice/irc/ping", None, json!({})).await;
    service.behave(Behaviour::Accept);
    // Hearing from the service ends the waiting.
    pings().await;
    let events = service.wait_for_events(before + MISSED).await;
    let texts: Vec<usize> =
        events[before..].iter().map(|event| event["content"]["body"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(texts, (0..MISSED).collect::<Vec<_>>());
    let largest = service.transactions().iter().map(|taken| taken.body["events"].as_array().unwrap().len()).max();
    assert!(largest <= Some(100), "{largest:?}");
    assert_eq!(service.violations(), [] as [&str; 0]);
}
