//! The fakes by the book: what they sign is right, and they understand each other.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use fake_homeserver::{FakeHomeserver, Network, Room, RoomSettings, body_of, object_of};
use rules::world::Clock;
use ruma::{
    RoomVersionId, ServerName,
    api::federation::authentication::XMatrix,
    serde::Base64,
    signatures::{PublicKeyMap, PublicKeySet, Verified, verify_event},
    state_res::{check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde_json::json;

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

fn network() -> Network {
    Network::new(Arc::new(Noon))
}

fn keys_of(fake: &FakeHomeserver) -> PublicKeyMap {
    let key = fake.key();
    let public_key: Base64 = Base64::new(key.public_key().to_vec());
    PublicKeyMap::from([(fake.name().to_string(), PublicKeySet::from([(key.key_id().to_string(), public_key)]))])
}

#[test]
fn rooms_of_every_version_hold_up() {
    let fake = network().add_fake("cardboard");
    let alice = fake.user("alice");
    for version in ["3", "6", "7", "8", "9", "10", "11", "12"] {
        let version = RoomVersionId::try_from(version).unwrap();
        let room = Room::create(&fake, &alice, &RoomSettings::of_version(version.clone()));
        room.send_message(&fake, &alice, "hello");
        assert_eq!(room.timeline().len(), 6, "{version}");
        let mut before = HashMap::new();
        for pdu in room.timeline() {
            let verified = verify_event(&keys_of(&fake), &object_of(&pdu), &room.rules).unwrap();
            assert_eq!(verified, Verified::All);
            let rules = &room.rules.authorization;
            check_state_independent_auth_rules(rules, &pdu, |id| room.event(id)).unwrap();
            check_state_dependent_auth_rules(rules, &pdu, |event_type, key| {
                before.get(&(event_type.clone(), key.to_owned())).cloned()
            })
            .unwrap_or_else(|reason| panic!("{version}: {reason}: {}", pdu.json));
            before.extend(pdu.state_key_pair().map(|key| (key, Arc::clone(&pdu))));
        }
    }
}

#[test]
fn requests_are_signed_as_the_library_would_check_them() {
    let network = network();
    let fake = network.add_fake("cardboard");
    let target = "/_matrix/federation/v1/state/!r:x?event_id=%24e";
    let destination = <&ServerName>::try_from("test").unwrap();
    let body = json!({"b": "é", "a": [1, {"z": null, "y": true}]});
    let prepared = fake.prepare(destination, http::Method::PUT, target, Some(&body));
    let request = prepared.into_request(&fake.key());
    let claim = XMatrix::extract_from_http_headers(request.headers()).unwrap();
    claim.verify_http_request(&request, destination, &keys_of(&fake)).unwrap();
    let mut other = request;
    *other.uri_mut() = "/_matrix/federation/v1/state/!s:x?event_id=%24e".parse().unwrap();
    claim.verify_http_request(&other, destination, &keys_of(&fake)).unwrap_err();
}

#[tokio::test]
async fn a_fake_joins_a_room_of_another() {
    let network = network();
    let (here, there) = (network.add_fake("here"), network.add_fake("there"));
    let room = Room::create(&here, &here.user("alice"), &RoomSettings::of_version(RoomVersionId::V12));
    let bob = there.user("bob");
    let joined = there.join(here.name(), &room.id, &bob).await.unwrap();
    assert_eq!(joined.state(), room.state());
    assert_eq!(room.servers(), [here.name(), there.name()]);
    let message = joined.send_message(&there, &bob, "hello");
    let response = there.send_pdus(here.name(), &[&message]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(room.extremities(), std::slice::from_ref(&message.event_id));
    assert_eq!(network.recorded_to(here.name(), "/send/").len(), 1);
}

#[tokio::test]
async fn keys_are_served_and_signed_and_hooks_come_first() {
    let network = network();
    let fake = network.add_fake("cardboard");
    let asker = network.add_fake("asker");
    let keys = body_of(&asker.get(fake.name(), "/_matrix/key/v2/server").await);
    assert_eq!(keys["verify_keys"]["ed25519:fake"]["key"], STANDARD_NO_PAD.encode(fake.key().public_key()));
    let object = serde_json::from_value(keys).unwrap();
    ruma::signatures::verify_json(&keys_of(&fake), &object).unwrap();
    fake.on_answer("/_matrix/key/", |answer| answer["server_name"] = "other".into());
    let keys = body_of(&asker.get(fake.name(), "/_matrix/key/v2/server").await);
    assert_eq!(keys["server_name"], "other");
    fake.behave();
    let keys = body_of(&asker.get(fake.name(), "/_matrix/key/v2/server").await);
    assert_eq!(keys["server_name"], "cardboard");
}

#[test]
fn sealed_objects_are_what_the_library_would_have_made() {
    let fake = network().add_fake("cardboard");
    for version in ["6", "11", "12"] {
        let version = RoomVersionId::try_from(version).unwrap();
        let room = Room::create(&fake, &fake.user("alice"), &RoomSettings::of_version(version));
        for pdu in room.timeline() {
            assert_eq!(fake.seal(object_of(&pdu), &room.rules), object_of(&pdu));
        }
    }
}
