//! Guests in rooms of other servers.

use std::time::Duration;

use engine::Requester;
use serde_json::json;

use crate::stage::Stage;

/// How often, and for how long, it is looked whether the guest has left.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn guests_leave_when_another_server_lets_none_in_any_more() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let room = stage.joined_room(&alice).await;
    let rita = stage.remote.user("rita");
    let access = |value: &str| {
        room.send_state(&stage.remote, &rita, "m.room.guest_access", "", json!({ "guest_access": value }))
    };
    stage.receive(&[&access("can_join")]).await;
    let session = stage.engine.register_guest(None).await.unwrap().session.unwrap();
    let guest = Requester { user_id: session.user_id, device_id: session.device_id };
    stage.join(&guest, &room.id).await.unwrap();
    // The other server has to know of the join before it can say anything after it.
    stage.flush(stage.remote.name()).await;
    stage.receive(&[&access("forbidden")]).await;
    let membership = async |user: &Requester| stage.membership(&room.id, &user.user_id).await;
    for _ in 0..LOOKS {
        if membership(&guest).await.as_deref() == Some("leave") {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(membership(&guest).await.as_deref(), Some("leave"));
    assert_eq!(membership(&alice).await.as_deref(), Some("join"));
}
