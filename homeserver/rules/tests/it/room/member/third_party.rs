//! Rule 5.4.1: invitations of people whom somebody asked by another address.

use homeserver_rules::event::{Draft, ServerKey};
use ruma::{owned_server_name, serde::Base64};
use serde_json::{Value, json};

use crate::room_fixture::{ALICE, BOB, CAROL, RoomFixture, object, rooms, server_key};

fn identity_server() -> ServerKey {
    let seed: [u8; 32] = std::array::from_fn(|index| 200 - index as u8);
    ServerKey::from_seed(owned_server_name!("identity.test"), "0", &seed).unwrap()
}

fn public_key(key: &ServerKey) -> String {
    Base64::<ruma::serde::base64::Standard, _>::new(key.public_key().to_vec()).encode()
}

/// What the identity server says about an address: it belongs to this user.
fn signed(key: &ServerKey, mxid: &str, token: &str) -> Value {
    let mut object = object(json!({ "mxid": mxid, "token": token }));
    key.sign_json(&mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

/// Alice asked an address by the token `token`.
fn ask(room: &mut RoomFixture, content: Value) {
    room.send(ALICE, "m.room.third_party_invite", Some("token"), content);
}

fn invite(room: &RoomFixture, sender: &str, target: &str, third_party_invite: Value) -> Draft {
    let content = json!({ "membership": "invite", "third_party_invite": third_party_invite });
    room.draft(sender, "m.room.member", Some(target), content)
}

#[test]
fn s_029_rule_5_4_1_a_proven_address_is_invited() {
    let key = identity_server();
    let of_one = json!({ "display_name": "c...", "public_key": public_key(&key), "key_validity_url": "" });
    let of_many = json!({ "public_keys": [{ "public_key": public_key(&server_key("b.test")) }, { "public_key": public_key(&key) }] });
    for content in [of_one, of_many] {
        for mut room in rooms(1..=12) {
            ask(&mut room, content.clone());
            room.allows(invite(&room, ALICE, CAROL, json!({ "signed": signed(&key, CAROL, "token") })));
        }
    }
}

#[test]
fn s_029_rule_5_4_1_everything_about_it_must_match() {
    let key = identity_server();
    for mut room in rooms(1..=12) {
        ask(&mut room, json!({ "public_key": public_key(&key) }));
        let of = |room: &RoomFixture, signed: Value| invite(room, ALICE, CAROL, json!({ "signed": signed }));

        room.refuses(of(&room, signed(&server_key("b.test"), CAROL, "token")), "no signature on third-party invite");
        room.refuses(of(&room, signed(&key, BOB, "token")), "mxid does not match");
        room.refuses(of(&room, signed(&key, CAROL, "other")), "matches the token");
        room.refuses(invite(&room, BOB, CAROL, json!({ "signed": signed(&key, CAROL, "token") })), "sender of");

        let mut altered = signed(&key, BOB, "token");
        altered["mxid"] = json!(CAROL);
        room.refuses(of(&room, altered), "no signature on third-party invite");
        for (field, value) in [("mxid", json!(null)), ("token", json!(5)), ("signatures", json!("text"))] {
            let mut malformed = signed(&key, CAROL, "token");
            malformed[field] = value;
            assert!(room.verdict(of(&room, malformed.clone())).is_err(), "{malformed}");
            malformed.as_object_mut().unwrap().remove(field);
            assert!(room.verdict(of(&room, malformed.clone())).is_err(), "{malformed}");
        }
        for malformed in [json!({}), json!({ "signed": 5 }), json!("text"), json!([])] {
            assert!(room.verdict(invite(&room, ALICE, CAROL, malformed.clone())).is_err(), "{malformed}");
        }
    }
}

#[test]
fn s_029_rule_5_4_1_a_key_that_is_everybodys_proves_nothing() {
    let base64 = |bytes: &[u8]| Base64::<ruma::serde::base64::Standard, _>::new(bytes.to_vec()).encode();
    let neutral = [&[1_u8][..], &[0; 31]].concat();
    let base_point = [&[0x58_u8][..], &[0x66; 31]].concat();
    let by_nobody = [neutral.clone(), vec![0; 32]].concat();
    let by_anybody = [base_point, neutral.clone()].concat();
    for content in [
        json!({ "public_key": base64(&neutral) }),
        json!({ "public_keys": [{ "public_key": base64(&neutral) }, { "public_key": public_key(&server_key("b.test")) }] }),
    ] {
        for mut room in rooms(1..=12) {
            ask(&mut room, content.clone());
            for forged in [&by_nobody, &by_anybody] {
                let signatures = json!({ "identity.test": { "ed25519:0": base64(forged) } });
                let signed = json!({ "mxid": CAROL, "token": "token", "signatures": signatures });
                room.refuses(invite(&room, ALICE, CAROL, json!({ "signed": signed })), "proves anything");
            }
        }
    }
}

#[test]
fn s_029_rule_5_4_1_a_used_or_withdrawn_token_proves_nothing() {
    let key = identity_server();
    for mut room in rooms(1..=12) {
        ask(&mut room, json!({ "public_key": public_key(&key) }));
        let proof = json!({ "signed": signed(&key, CAROL, "token") });
        ask(&mut room, json!({}));
        room.refuses(invite(&room, ALICE, CAROL, proof.clone()), "no signature on third-party invite");
        ask(&mut room, json!({ "public_key": public_key(&key) }));
        room.allows(invite(&room, ALICE, CAROL, proof.clone()));
        room.member(ALICE, CAROL, "ban");
        room.refuses(invite(&room, ALICE, CAROL, proof), "cannot invite user that is banned");
    }
}
