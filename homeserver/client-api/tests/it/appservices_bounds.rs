//! Application services and others: what comes to a service from other servers, and what of people it does not own it
//! has no hold of.

use std::sync::{Arc, atomic::AtomicU64};

use axum::http::Method;
use engine::{AccountSettings, Hidden, JwtAlgorithm, JwtSettings};
use fake_homeserver::{Network, Room, RoomSettings};
use fake_service::FakeService;
use serde_json::{Value, json, value::RawValue};

use crate::{
    appservices::{AS_TOKEN, HS_TOKEN, ask, make_user, registration, with_bridge},
    server::{HandClock, Setup, TestServer, encode},
};

/// The registration of a service that hears all users, and owns its own one and no more.
fn hearing_all(url: &str, more: &str) -> String {
    format!(
        "id: irc\nurl: {url}\nas_token: {AS_TOKEN}-irc\nhs_token: {HS_TOKEN}\nsender_localpart: ircbot\nnamespaces:\n  \
         users:\n  - {{regex: '@.*', exclusive: false}}\n  aliases:\n  - {{regex: '#_irc_.*', exclusive: true}}\n{more}\n"
    )
}

#[tokio::test]
async fn an_invitation_from_another_server_reaches_the_service() {
    let network = Network::new(Arc::new(HandClock(AtomicU64::new(1_700_000_000_000))));
    let remote = network.add_fake("remote");
    let service = FakeService::start(HS_TOKEN).await;
    let services = vec![registration("irc", &service.url(), "")];
    let transport = Some(Arc::new(network) as Arc<dyn outbound::Transport>);
    let server = TestServer::start_as(Setup { transport, services, ..Setup::default() }).await;

    let rita = remote.user("rita");
    let room = Room::create(&remote, &rita, &RoomSettings::default());
    let content = json!({ "membership": "invite" });
    let draft = room.draft(&remote, &rita, "m.room.member", Some("@ircbot:example.org"), content);
    let pdu = remote.build(draft, &room.rules);
    let raw = RawValue::from_string(pdu.json.to_string()).unwrap();
    let shown: Vec<Box<RawValue>> = serde_json::from_value(remote.invite_state(&room)).unwrap();
    // The other server may ask twice.
    for _ in 0..2 {
        let invited =
            server.engine.federation_invite(remote.name(), &room.id, &pdu.event_id, &room.version, &raw, &shown);
        invited.await.unwrap();
    }
    let heard = service.wait_for_events(1).await;
    assert_eq!(heard[0]["event_id"], pdu.event_id.as_str());
    assert_eq!(heard[0]["state_key"], "@ircbot:example.org");
    assert_eq!(heard[0]["content"]["membership"], "invite");
    assert!(heard[0]["unsigned"]["invite_room_state"].is_array(), "{}", heard[0]);

    room.accept(pdu);
    let join = format!("/_matrix/client/v3/join/{}?server_name=remote", room.id);
    ask(&server, Method::POST, &join, None, json!({})).await.ok();
    let is_joined =
        |event: &Value| event["content"]["membership"] == "join" && event["state_key"] == "@ircbot:example.org";
    service.wait_until("the join", |service| service.events().iter().any(is_joined)).await;
    assert!(server.engine.storage().fsck().await.unwrap().is_empty());
    assert_eq!(service.violations(), [] as [&str; 0]);
}

#[tokio::test]
async fn messages_to_devices_of_people_stay_theirs() {
    let service = FakeService::start(HS_TOKEN).await;
    let services = vec![hearing_all(&service.url(), "org.matrix.msc3202: true")];
    let server = TestServer::start_as(Setup { services, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let bot = "/_matrix/client/v3/devices/BOT";
    assert_eq!(ask(&server, Method::PUT, bot, None, json!({})).await.status, 201);
    let messages = json!({ "messages": {
        &alice.user_id: { &alice.device_id: { "for": "alice" } }, "@ircbot:example.org": { "BOT": { "for": "bot" } },
    } });
    server.put_as(&alice, "/_matrix/client/v3/sendToDevice/m.test/1", messages).await.ok();
    let messages = json!({ "messages": { "@ircbot:example.org": { "BOT": { "for": "bot again" } } } });
    server.put_as(&alice, "/_matrix/client/v3/sendToDevice/m.test/2", messages).await.ok();
    service.wait_until("both messages", |service| service.all("to_device").len() >= 2).await;
    let taken: Vec<Value> = service.all("to_device").iter().map(|message| message["content"]["for"].clone()).collect();
    assert_eq!(taken, ["bot", "bot again"]);
    let sync = server.get_as(&alice, "/_matrix/client/v3/sync").await.ok();
    assert_eq!(sync["to_device"]["events"][0]["content"], json!({ "for": "alice" }));
}

#[tokio::test]
async fn s_107_a_token_of_another_service_logs_in_no_user_of_a_bridge() {
    let jwt = JwtSettings {
        secret: Hidden("a secret of two".to_owned()),
        algorithm: JwtAlgorithm::Hs256,
        issuer: None,
        audience: None,
    };
    let accounts = AccountSettings { jwt: Some(jwt), ..AccountSettings::default() };
    let services = vec![registration("irc", "null", "").replace("@_irc_", "@irc_")];
    let server = TestServer::start_as(Setup { accounts, services, ..Setup::default() }).await;
    // {"alg":"HS256"} and {"sub":"irc_bob"}, signed with the secret above.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJpcmNfYm9iIn0.SMLmfdZUW7VBQc63IwShyVACHSJkT15HH54VHCzoQi8";
    let login = json!({ "type": "org.matrix.login.jwt", "token": token });
    server.post("/_matrix/client/v3/login", login.clone()).await.assert_error(400, "M_EXCLUSIVE");
    // Nor was the account made; and once there is one, it is not theirs either.
    make_user(&server, "irc_bob").await.ok();
    server.post("/_matrix/client/v3/login", login).await.assert_error(400, "M_EXCLUSIVE");
}

#[tokio::test]
async fn a_service_lists_only_rooms_that_it_has_to_do_with() {
    let (server, _service) = with_bridge("protocols: [chat]").await;
    let alice = server.register("alice").await;
    let room = server.private_room(&alice).await;
    let list = format!("/_matrix/client/v3/directory/list/appservice/oftc/{}", encode(&room));
    let public = json!({ "visibility": "public" });
    ask(&server, Method::PUT, &list, None, public.clone()).await.assert_error(403, "M_FORBIDDEN");
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    server.post_as(&alice, &invite, json!({ "user_id": "@ircbot:example.org" })).await.ok();
    ask(&server, Method::PUT, &list, None, public.clone()).await.assert_error(403, "M_FORBIDDEN");
    ask(&server, Method::POST, &format!("/_matrix/client/v3/rooms/{room}/join"), None, json!({})).await.ok();
    ask(&server, Method::PUT, &list, None, public).await.ok();
}

#[tokio::test]
async fn a_service_makes_its_aliases_for_whomever_it_speaks_for() {
    let services = vec![hearing_all("null", "")];
    let server = TestServer::start_as(Setup { services, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let room = server.private_room(&alice).await;
    let alias = format!("/_matrix/client/v3/directory/room/{}", encode("#_irc_tea:example.org"));
    let body = json!({ "room_id": room });
    server.put_as(&alice, &alias, body.clone()).await.assert_error(400, "M_EXCLUSIVE");
    ask(&server, Method::PUT, &alias, Some(&alice.user_id), body).await.ok();
    server.send(Method::DELETE, &alias, Some(&alice.token), &json!({})).await.assert_error(400, "M_EXCLUSIVE");
    ask(&server, Method::DELETE, &alias, Some(&alice.user_id), json!({})).await.ok();
    let create = json!({ "room_alias_name": "_irc_tea" });
    ask(&server, Method::POST, "/_matrix/client/v3/createRoom", Some(&alice.user_id), create).await.ok();
}

#[tokio::test]
async fn a_question_that_gets_no_answer_is_not_answered_for_the_service() {
    let service = FakeService::start(HS_TOKEN).await;
    let services = vec![registration("irc", &service.url(), "protocols: [irc]")];
    let server = TestServer::start_as(Setup { services, ..Setup::default() }).await;
    let alice = server.register("alice").await;
    let alias = format!("/_matrix/client/v3/directory/room/{}", encode("#_irc_tea:example.org"));
    let profile = format!("/_matrix/client/v3/profile/{}", encode("@_irc_bob:example.org"));
    server.get(&alias).await.assert_error(404, "M_NOT_FOUND");
    server.get(&profile).await.assert_error(404, "M_NOT_FOUND");
    drop(service);
    let third_party = "/_matrix/client/v3/thirdparty";
    for path in [
        alias,
        profile,
        format!("{third_party}/protocol/irc"),
        format!("{third_party}/user/irc?nick=bob"),
        format!("{third_party}/location/irc?channel=tea"),
    ] {
        server.get_as(&alice, &path).await.assert_error(408, "M_CONNECTION_TIMEOUT");
    }
    // What is not about one service is answered without it.
    assert_eq!(server.get_as(&alice, &format!("{third_party}/protocols")).await.ok(), json!({}));
    let by_alias = format!("{third_party}/location?alias={}", encode("#other:example.org"));
    assert_eq!(server.get_as(&alice, &by_alias).await.ok(), json!([]));
    server
        .get(&format!("/_matrix/client/v3/directory/room/{}", encode("#tea:example.org")))
        .await
        .assert_error(404, "M_NOT_FOUND");
    // Who is invited hears of it when the service is back.
    let room = server.private_room(&alice).await;
    let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
    server.post_as(&alice, &invite, json!({ "user_id": "@_irc_bob:example.org" })).await.ok();
}

#[tokio::test]
async fn whose_devices_a_service_is_to_know_follows_who_is_in_its_rooms() {
    let (server, service) = with_bridge("org.matrix.msc3202: true").await;
    let (alice, eve) = (server.register("alice").await, server.register("eve").await);
    let create = json!({ "preset": "public_chat", "invite": ["@ircbot:example.org"] });
    let one = server.post_as(&alice, "/_matrix/client/v3/createRoom", create.clone()).await.ok();
    let other = server.post_as(&alice, "/_matrix/client/v3/createRoom", create).await.ok();
    let (one, other) = (one["room_id"].as_str().unwrap(), other["room_id"].as_str().unwrap());
    let told = |name: &str| -> Vec<String> {
        let taken = service.transactions();
        let lists = taken.iter().map(|taken| &taken.body["org.matrix.msc3202.device_lists"][name]);
        let users = lists.filter_map(Value::as_array).flatten();
        let mut users: Vec<String> = users.map(|user| user.as_str().unwrap().to_owned()).collect();
        users.retain(|user| *user != "@ircbot:example.org");
        users.dedup();
        users
    };
    let membership = async |user: Option<&crate::server::Session>, room: &str, verb: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/{verb}");
        match user {
            Some(user) => server.post_as(user, &path, json!({})).await.ok(),
            None => ask(&server, Method::POST, &path, None, json!({})).await.ok(),
        };
    };
    let wait_for = async |name: &str, users: &[&str]| {
        service.wait_until(name, |_| told(name) == users).await;
    };
    let (alice_id, eve_id) = (alice.user_id.as_str(), eve.user_id.as_str());
    membership(None, one, "join").await;
    wait_for("changed", &[alice_id]).await;
    membership(Some(&eve), one, "join").await;
    wait_for("changed", &[alice_id, eve_id]).await;
    membership(None, other, "join").await;
    wait_for("changed", &[alice_id, eve_id, alice_id]).await;
    assert_eq!(told("left"), [] as [&str; 0]);
    // Who leaves a room that is none of the service's is nobody that it hears of.
    let carol = server.register("carol").await;
    let private = json!({ "preset": "public_chat" });
    let private = server.post_as(&alice, "/_matrix/client/v3/createRoom", private).await.ok();
    let private = private["room_id"].as_str().unwrap();
    membership(Some(&carol), private, "join").await;
    membership(Some(&carol), private, "leave").await;
    membership(Some(&eve), one, "leave").await;
    wait_for("left", &[eve_id]).await;
    // Alice is in another room still.
    membership(None, one, "leave").await;
    membership(None, other, "leave").await;
    wait_for("left", &[eve_id, alice_id]).await;
    assert_eq!(service.violations(), [] as [&str; 0]);
}
