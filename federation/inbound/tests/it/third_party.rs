//! Invitations of e-mail addresses and the like.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    http::HeaderMap,
    routing::{get, post},
};
use engine::{AddressInvite, BoundInvite, EngineError};
use fake_homeserver::body_of;
use http::Method;
use rules::room::create::Preset;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::stage::{Stage, encode, raw_json};

#[tokio::test]
async fn s_003_an_invitation_is_exchanged_when_it_is_signed_for_a_user_of_the_asker() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    let key = stage.remote.key();
    let published = http::Request::get("/_matrix/key/v2/server").body(bytes::Bytes::new()).unwrap();
    let published = body_of(&stage.network.deliver(stage.remote.name(), published).await.unwrap());
    let public_key = published["verify_keys"]["ed25519:fake"]["key"].clone();
    let content = json!({
        "display_name": "b...@e...", "key_validity_url": "https://remote/valid", "public_key": public_key,
        "public_keys": [{"public_key": public_key}],
    });
    stage
        .engine
        .set_state(&alice, &room_id, "m.room.third_party_invite".into(), "token", &raw_json(&content))
        .await
        .unwrap();
    let signed = |mxid: &str, token: &str| {
        let mut signed: CanonicalJsonObject = serde_json::from_value(json!({"mxid": mxid, "token": token})).unwrap();
        key.sign_json(&mut signed).unwrap();
        serde_json::to_value(signed).unwrap()
    };
    let ask = async |sender: &str, target: &str, named: &str, signed: Value| {
        let content =
            json!({"membership": "invite", "third_party_invite": {"display_name": "b...@e...", "signed": signed}});
        let body = json!({"type": "m.room.member", "room_id": named, "sender": sender, "state_key": target, "content": content});
        let target = format!("/_matrix/federation/v1/exchange_third_party_invite/{}", encode(&room_id));
        stage.remote.ask(&stage.name, Method::PUT, &target, Some(&body)).await.status().as_u16()
    };
    let (bob, room) = ("@bob:remote", room_id.as_str());
    let mut tampered = signed("@eve:remote", "token");
    tampered["mxid"] = json!(bob);
    for (why, sender, target, named, signed) in [
        ("signed for another", "@alice:test", bob, room, signed("@eve:remote", "token")),
        ("tampered with", "@alice:test", bob, room, tampered),
        ("unknown token", "@alice:test", bob, room, signed(bob, "other")),
        ("not of the asker", "@alice:test", "@x:elsewhere", room, signed("@x:elsewhere", "token")),
        ("not invited by her", "@mallory:test", bob, room, signed(bob, "token")),
        ("not invited by us", "@rita:remote", bob, room, signed(bob, "token")),
        ("another room", "@alice:test", bob, "!other:test", signed(bob, "token")),
    ] {
        assert_eq!(ask(sender, target, named, signed).await, 403, "{why}");
    }
    assert!(stage.remote.invites().is_empty());
    assert_eq!(ask("@alice:test", bob, room, signed(bob, "token")).await, 200);
    assert_eq!(stage.remote.invites()[0]["content"]["third_party_invite"]["signed"]["mxid"], bob);
    assert_eq!(stage.membership(&room_id, &stage.remote.user("bob")).await.as_deref(), Some("invite"));
}

/// An identity server named `identity`, which knows one address, and keeps what it is told.
fn identity_server(public_key: &str) -> (Router, Arc<Mutex<Vec<Value>>>) {
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (of_lookup, of_invite, public_key) = (told.clone(), told.clone(), public_key.to_owned());
    let details = async |headers: HeaderMap| {
        assert_eq!(headers["authorization"], "Bearer secret");
        json!({ "lookup_pepper": "matrixrocks", "algorithms": ["none", "sha256"] }).to_string()
    };
    let lookup = async move |body: Bytes| {
        of_lookup.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        // The hash of bob@example.com with that pepper.
        json!({ "mappings": { "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8": "@bob:remote" } }).to_string()
    };
    let published = json!({ "public_key": public_key }).to_string();
    let store = async move |body: Bytes| {
        of_invite.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        let key = json!({ "public_key": public_key, "key_validity_url": "https://identity/valid" });
        json!({ "token": "token", "display_name": "c...@e...", "public_keys": [key] }).to_string()
    };
    let router = Router::new()
        .route("/_matrix/identity/v2/hash_details", get(details))
        .route("/_matrix/identity/v2/lookup", post(lookup))
        .route("/_matrix/identity/v2/store-invite", post(store))
        .route("/_matrix/identity/v2/pubkey/ed25519:fake", get(async move || published));
    (router, told)
}

fn invitation(address: &str) -> AddressInvite {
    AddressInvite {
        medium: "email".to_owned(),
        address: address.to_owned(),
        id_server: "identity".to_owned(),
        id_access_token: "secret".to_owned(),
    }
}

async fn public_key(stage: &Stage) -> String {
    let published = http::Request::get("/_matrix/key/v2/server").body(bytes::Bytes::new()).unwrap();
    let published = body_of(&stage.network.deliver(stage.remote.name(), published).await.unwrap());
    published["verify_keys"]["ed25519:fake"]["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_is_known_by_an_address_is_invited_and_for_others_the_invitation_waits() {
    let stage = Stage::new().await;
    let (alice, carol) = (stage.user("alice").await, stage.user("carol").await);
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    let key = public_key(&stage).await;
    let (router, told) = identity_server(&key);
    stage.network.add_router("identity".try_into().unwrap(), router);
    let invite = async |invitation| stage.engine.invite_by_address(&alice, &room_id, invitation, None).await;
    invite(invitation("Bob@Example.com")).await.unwrap();
    assert_eq!(stage.membership(&room_id, &stage.remote.user("bob")).await.as_deref(), Some("invite"));
    invite(invitation("carol@example.com")).await.unwrap();
    let asked = told.lock().unwrap().last().unwrap().clone();
    assert_eq!((&asked["address"], &asked["sender"]), (&json!("carol@example.com"), &json!("@alice:test")), "{asked}");
    let waiting = stage.engine.state_event(&alice, &room_id, &"m.room.third_party_invite".into(), "token").await;
    let waiting: Value = serde_json::from_str(waiting.unwrap().get()).unwrap();
    assert_eq!(waiting["content"]["public_keys"][0]["public_key"], key, "{waiting}");
    assert!(!waiting.to_string().contains("carol"), "{waiting}");
    // Nobody but members with the power, and by no other identity server.
    let refused = stage.engine.invite_by_address(&carol, &room_id, invitation("x@example.com"), None).await;
    assert!(matches!(refused, Err(EngineError::Forbidden(_))), "{refused:?}");
    let elsewhere = AddressInvite { id_server: "evil".to_owned(), ..invitation("x@example.com") };
    assert!(matches!(invite(elsewhere).await, Err(EngineError::Forbidden(_))));
    assert!(stage.network.recorded_to("evil".try_into().unwrap(), "").is_empty());
    let nonsense = AddressInvite { id_access_token: "a\r\nb".to_owned(), ..invitation("x@example.com") };
    assert!(matches!(invite(nonsense).await, Err(EngineError::CannotFederate(_))));
}

#[tokio::test]
async fn an_address_that_is_bound_brings_the_invitations_that_have_waited() {
    let stage = Stage::new().await;
    let (alice, carol) = (stage.user("alice").await, stage.user("carol").await);
    let room_id = stage.local_room(&alice, |command| command.preset = Some(Preset::PrivateChat)).await;
    let (router, _) = identity_server(&public_key(&stage).await);
    stage.network.add_router("identity".try_into().unwrap(), router);
    stage.engine.invite_by_address(&alice, &room_id, invitation("carol@example.com"), None).await.unwrap();
    let signed = |mxid: &str, signer: &str| {
        let mut signed: CanonicalJsonObject = serde_json::from_value(json!({"mxid": mxid, "token": "token"})).unwrap();
        stage.remote.key().sign_json(&mut signed).unwrap();
        let mut signed = serde_json::to_value(signed).unwrap();
        signed["signatures"][signer] = signed["signatures"]["remote"].take();
        signed
    };
    let bind = async |mxid: &str, signed: Value| {
        let invite = json!({
            "medium": "email", "address": "carol@example.com", "mxid": mxid, "room_id": room_id,
            "sender": "@alice:test", "signed": signed,
        });
        let body = json!({ "medium": "email", "address": "carol@example.com", "mxid": mxid, "invites": [invite] });
        let request =
            http::Request::put("/_matrix/federation/v1/3pid/onbind").body(bytes::Bytes::from(body.to_string()));
        stage.network.deliver(&stage.name, request.unwrap()).await.unwrap().status().as_u16()
    };
    // Nobody is told who has an account here.
    assert_eq!(bind("@nobody:test", signed("@nobody:test", "identity")).await, 200);
    let mut made_up = signed("@carol:test", "identity");
    made_up["signatures"]["identity"]["ed25519:fake"] = json!("A".repeat(86));
    assert_eq!(bind("@carol:test", made_up.clone()).await, 200);
    let elsewhere = BoundInvite {
        room_id: "!far:remote".try_into().unwrap(),
        sender: stage.remote.user("rita"),
        signed: serde_json::from_value(made_up).unwrap(),
    };
    stage.engine.address_bound(&carol.user_id, vec![elsewhere]).await.unwrap();
    assert!(stage.network.recorded_to(stage.remote.name(), "exchange_third_party_invite").is_empty());
    assert_eq!(bind("@carol:test", signed("@carol:test", "somebody")).await, 200);
    assert_eq!(bind("@carol:test", signed("@alice:test", "identity")).await, 200);
    assert_eq!(stage.membership(&room_id, &carol.user_id).await, None, "none of these was an invitation");
    assert_eq!(bind("@carol:test", signed("@carol:test", "identity")).await, 200);
    assert_eq!(stage.membership(&room_id, &carol.user_id).await.as_deref(), Some("invite"));
    let shown = stage.sync(&carol).await["rooms"]["invite"][room_id.as_str()].to_string();
    assert!(shown.contains("c...@e..."), "{shown}");
    // Somebody elsewhere invited: their server is asked.
    let invite = BoundInvite {
        room_id: "!far:remote".try_into().unwrap(),
        sender: stage.remote.user("rita"),
        signed: serde_json::from_value(signed("@carol:test", "identity")).unwrap(),
    };
    stage.engine.address_bound(&carol.user_id, vec![invite]).await.unwrap();
    let asked = stage.network.recorded_to(stage.remote.name(), "exchange_third_party_invite");
    assert_eq!(asked[0].body["content"]["third_party_invite"]["signed"]["mxid"], "@carol:test");
}
