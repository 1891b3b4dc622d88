//! Invitations of e-mail addresses and the like.

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
