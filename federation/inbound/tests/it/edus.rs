//! What is sent along with events and is worth nothing later.

use fake_homeserver::Room;
use serde_json::{Value, json};

use crate::stage::{Stage, Verdict};

async fn send(stage: &Stage, edus: &[Value]) {
    let response = stage.remote.send_transaction(&stage.name, &[], edus).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
}

fn typing(room: &Room, user_id: &str) -> Value {
    json!({"edu_type": "m.typing", "content": {"room_id": room.id, "user_id": user_id, "typing": true}})
}

fn receipt(room: &Room, user_id: &str, event_id: &str) -> Value {
    let data = json!({"data": {"ts": 1_790_000_000_000_u64}, "event_ids": [event_id]});
    json!({"edu_type": "m.receipt", "content": {room.id.as_str(): {"m.read": {user_id: data}}}})
}

#[tokio::test]
async fn s_069_each_edu_is_skipped_by_itself() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let message = room.send_message(&stage.remote, &rita, "hello");
    let mut edus = vec![
        json!({"edu_type": "org.example.unheard_of", "content": {}}),
        json!({"edu_type": "m.typing"}),
        json!({"edu_type": "m.typing", "content": null}),
        json!({"edu_type": "m.typing", "content": {"room_id": 1, "user_id": 2, "typing": 3}}),
        json!({"edu_type": "m.receipt", "content": []}),
        json!({"edu_type": "m.receipt", "content": {room.id.as_str(): {"m.read": {rita.as_str(): {"event_ids": 1}}}}}),
        json!({"edu_type": "m.presence", "content": {"push": "x"}}),
        json!({"edu_type": "m.direct_to_device", "content": {"sender": 1}}),
        json!({"edu_type": "m.device_list_update", "content": {}}),
        json!({"edu_type": "m.signing_key_update", "content": "x"}),
        json!({"edu_type": 7, "content": {}}),
        json!({"content": {}}),
        json!(null),
        json!([]),
        json!("x"),
    ];
    edus.push(typing(&room, rita.as_str()));
    edus.push(receipt(&room, rita.as_str(), message.event_id.as_str()));
    stage.receive(&[&message]).await;
    send(&stage, &edus).await;
    let sync = stage.sync(&alice).await.to_string();
    assert!(sync.contains("m.typing"), "{sync}");
    assert!(sync.contains("m.read"), "{sync}");
}

#[tokio::test]
async fn a_receipt_for_an_event_of_the_same_transaction_counts() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let message = room.send_message(&stage.remote, &rita, "hello");
    let edus = [receipt(&room, rita.as_str(), message.event_id.as_str())];
    let response = stage.remote.send_transaction(&stage.name, &[message.to_raw_json()], &edus).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
    assert_eq!(stage.verdict(&message.event_id).await, Verdict::Accepted);
    assert!(stage.sync(&alice).await.to_string().contains("m.read"));
}

#[tokio::test]
async fn s_070_a_server_speaks_only_for_its_own_users() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let bob = stage.user("bob").await;
    let room = stage.joined_room(&alice).await;
    stage.join(&bob, &room.id).await.unwrap();
    let other = stage.network.add_fake("other");
    let oscar = other.user("oscar");
    let join = room.send_state(&other, &oscar, "m.room.member", oscar.as_str(), json!({"membership": "join"}));
    let message = room.send_message(&stage.remote, &stage.remote.user("rita"), "hello");
    stage.receive(&[&join, &message]).await;
    assert_eq!(stage.verdict(&join.event_id).await, Verdict::Accepted);
    let head = stage.log_head();
    let mut edus = Vec::new();
    for user_id in [bob.user_id.as_str(), oscar.as_str()] {
        edus.push(typing(&room, user_id));
        edus.push(receipt(&room, user_id, message.event_id.as_str()));
        edus.push(json!({"edu_type": "m.presence", "content": {"push": [{"user_id": user_id, "presence": "online"}]}}));
        edus.push(json!({"edu_type": "m.direct_to_device", "content": {
            "sender": user_id, "type": "m.poison", "message_id": "1", "messages": {alice.user_id.as_str(): {"*": {"x": 1}}},
        }}));
        edus.push(json!({"edu_type": "m.device_list_update", "content": {
            "user_id": user_id, "device_id": "D", "stream_id": 1,
        }}));
        edus.push(json!({"edu_type": "m.signing_key_update", "content": {"user_id": user_id}}));
    }
    send(&stage, &edus).await;
    let sync = stage.sync(&alice).await.to_string();
    for trace in ["m.typing", "m.receipt", "m.presence", "m.poison"] {
        assert!(!sync.contains(trace), "{trace}: {sync}");
    }
    assert_eq!(stage.log_head(), head);
}

#[tokio::test]
async fn s_071_receipts_and_typing_are_of_members_of_the_room() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let elsewhere = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let there = elsewhere.send_message(&stage.remote, &rita, "there");
    let message = room.send_message(&stage.remote, &rita, "here");
    stage.receive(&[&there, &message]).await;
    let stranger = stage.remote.user("stranger");
    let head = stage.log_head();
    let edus = [
        typing(&room, stranger.as_str()),
        receipt(&room, stranger.as_str(), message.event_id.as_str()),
        receipt(&room, rita.as_str(), there.event_id.as_str()),
        receipt(&room, rita.as_str(), "$unheard_of"),
    ];
    send(&stage, &edus).await;
    let sync = stage.sync(&alice).await.to_string();
    assert!(!sync.contains("m.typing") && !sync.contains(stranger.as_str()), "{sync}");
    assert!(!sync.contains("m.read\""), "{sync}");
    assert_eq!(stage.log_head(), head);
    // A receipt that says nothing new is no news.
    send(&stage, &[receipt(&room, rita.as_str(), message.event_id.as_str())]).await;
    let head = stage.log_head();
    send(&stage, &[receipt(&room, rita.as_str(), message.event_id.as_str())]).await;
    assert_eq!(stage.log_head(), head);
}

#[tokio::test]
async fn s_071_endless_typing_is_clamped() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let mut edu = typing(&room, stage.remote.user("rita").as_str());
    edu["content"]["timeout"] = json!(1_000_000_000_u64);
    send(&stage, &[edu]).await;
    assert!(stage.sync(&alice).await.to_string().contains("m.typing"));
    stage.clock.advance(std::time::Duration::from_mins(10));
    let sync = stage.sync(&alice).await;
    let ephemeral = sync["rooms"]["join"][room.id.as_str()]["ephemeral"]["events"].to_string();
    assert!(!ephemeral.contains("@rita:remote"), "{ephemeral}");
}

fn presence(user_id: &str, state: &str) -> Value {
    json!({"edu_type": "m.presence", "content": {"push": [
        {"user_id": "junk"},
        {"user_id": user_id, "presence": state, "last_active_ago": 5, "currently_active": true, "status_msg": "hello"},
    ]}})
}

async fn shown(stage: &Stage, user: &engine::Requester, user_id: &str) -> Option<String> {
    let presence = stage.engine.presence(user, user_id.try_into().unwrap()).await.ok()?;
    Some(format!("{} {}", presence.state, presence.status_msg.unwrap_or_default()))
}

#[tokio::test]
async fn s_070_presence_is_heard_of_those_who_share_a_room() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let rita = stage.remote.user("rita");
    // Nobody here shares a room with her.
    send(&stage, &[presence(rita.as_str(), "online")]).await;
    let room = stage.joined_room(&alice).await;
    assert_eq!(shown(&stage, &alice, rita.as_str()).await.as_deref(), Some("offline "));
    send(&stage, &[presence(rita.as_str(), "online"), presence(alice.user_id.as_str(), "busy")]).await;
    assert_eq!(shown(&stage, &alice, rita.as_str()).await.as_deref(), Some("online hello"));
    assert_eq!(shown(&stage, &alice, alice.user_id.as_str()).await.as_deref(), Some("offline "));
    let synced = stage.sync(&alice).await;
    assert_eq!(synced["presence"]["events"][0]["sender"], json!(rita.as_str()), "{synced}");
    // Her server is banned from the only room.
    let acl = json!({"allow": ["*"], "deny": [stage.remote.name().as_str()]});
    let acl = room.send_state(&stage.remote, &rita, "m.room.server_acl", "", acl);
    stage.receive(&[&acl]).await;
    send(&stage, &[presence(rita.as_str(), "unavailable")]).await;
    assert_eq!(shown(&stage, &alice, rita.as_str()).await.as_deref(), Some("online hello"));
}

#[tokio::test]
async fn presence_is_told_to_other_servers_in_one_message() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.user("alice").await, stage.user("bob").await);
    let room = stage.joined_room(&alice).await;
    stage.join(&bob, &room.id).await.unwrap();
    for user in [&alice, &bob] {
        stage.engine.set_presence(user, &"online".into(), Some("here".to_owned())).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    stage.flush(stage.remote.name()).await;
    let transactions = stage.remote.transactions();
    let edus = transactions.iter().flat_map(|body| body["edus"].as_array().cloned().unwrap_or_default());
    let edus: Vec<Value> = edus.filter(|edu| edu["edu_type"] == "m.presence").collect();
    assert_eq!(edus.len(), 1, "{edus:?}");
    let push = edus[0]["content"]["push"].as_array().unwrap();
    assert_eq!(push.len(), 2, "{push:?}");
    assert!(push.iter().all(|update| update["presence"] == "online" && update["status_msg"] == "here"), "{push:?}");
}

#[tokio::test]
async fn s_072_presence_and_typing_of_crowds_are_of_those_who_share_a_room_and_bounded() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let head = stage.log_head();
    let crowd = |number: usize| format!("@crowd{number}:remote");
    let push: Vec<Value> = (0..20_000)
        .map(|number| json!({"user_id": crowd(number), "presence": "online", "status_msg": "hello"}))
        .collect();
    let told = json!({"edu_type": "m.presence", "content": {"push": push}});
    send(&stage, &[told, presence("@rita:remote", "online")]).await;
    let typists: Vec<Value> = (0..100).map(|number| typing(&room, &crowd(number))).collect();
    for _ in 0..10 {
        send(&stage, &typists).await;
    }
    let synced = stage.sync(&alice).await;
    assert_eq!(synced["presence"]["events"].as_array().unwrap().len(), 1, "only those who share a room are shown");
    assert!(!synced.to_string().contains("@crowd"), "nobody else is");
    assert_eq!(stage.log_head(), head, "none of it is written down");
    assert_eq!(shown(&stage, &alice, "@rita:remote").await.as_deref(), Some("online hello"));
}
