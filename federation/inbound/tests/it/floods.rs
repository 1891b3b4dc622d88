//! A server that tells more than anybody wants to know.

use serde_json::{Value, json};

use crate::stage::Stage;

async fn send(stage: &Stage, edus: &[Value]) {
    let response = stage.remote.send_transaction(&stage.name, &[], edus).await;
    assert_eq!(response.status(), 200, "{:?}", response.body());
}

#[tokio::test]
async fn s_072_presence_and_typing_of_thousands_are_heard_of_those_in_our_rooms() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let head = stage.log_head();
    let online = |user_id: &str| json!({ "user_id": user_id, "presence": "online", "status_msg": "hello" });
    let crowd = (0..10_000).map(|number| online(&format!("@user{number}:remote")));
    let push: Vec<Value> = std::iter::once(online(rita.as_str())).chain(crowd).collect();
    send(&stage, &[json!({ "edu_type": "m.presence", "content": { "push": push } })]).await;
    let typing = |user_id: String| {
        let content = json!({ "room_id": room.id, "user_id": user_id, "typing": true, "timeout": 30_000 });
        json!({ "edu_type": "m.typing", "content": content })
    };
    for round in 0..20 {
        let crowd = (0..99).map(|number| typing(format!("@user{round}x{number}:remote")));
        let edus: Vec<Value> = crowd.chain([typing(rita.to_string())]).collect();
        send(&stage, &edus).await;
    }
    let synced = stage.sync(&alice).await;
    let heard: Vec<&Value> =
        synced["presence"]["events"].as_array().into_iter().flatten().map(|event| &event["sender"]).collect();
    assert!(heard.iter().all(|sender| !sender.as_str().unwrap().starts_with("@user")), "{heard:?}");
    assert!(heard.contains(&&json!(rita)), "{heard:?}");
    let ephemeral = synced["rooms"]["join"][room.id.as_str()]["ephemeral"]["events"].as_array().unwrap();
    let typing: Vec<&Value> = ephemeral.iter().filter(|event| event["type"] == "m.typing").collect();
    assert_eq!(typing.len(), 1, "{ephemeral:?}");
    assert_eq!(typing[0]["content"]["user_ids"], json!([rita]));
    assert_eq!(stage.log_head(), head, "none of it is kept");
}
