//! What a push gateway is told.
//!
//! Spec: <https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify>

use std::borrow::Cow;

use ruma::{
    OwnedRoomId, OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};
use storage::{MembershipRecord, NotificationRecord, PusherRecord};

use crate::{Engine, EngineError, Result};

/// The largest content that goes along, in bytes: what it is passed on by takes far less.
const CONTENT_BYTES_MAX: usize = 16 * 1024;
/// The format that names the event and says nothing of it.
const EVENT_ID_ONLY: &str = "event_id_only";
const MEMBER: &str = "m.room.member";
/// Events that somebody waits for, or of which only the device can say whether somebody does.
const URGENT: [&str; 4] =
    ["m.room.encrypted", "m.call.invite", "m.rtc.notification", "org.matrix.msc4075.rtc.notification"];

/// How much a user has not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) unread: u64,
    pub(super) missed_calls: u64,
}

/// What there is to say of an event and where it happened.
pub(super) struct Scene {
    pub(super) room_id: OwnedRoomId,
    pub(super) event_type: String,
    pub(super) sender: OwnedUserId,
    pub(super) content: Value,
    pub(super) sender_display_name: Option<String>,
    pub(super) room_name: Option<String>,
    pub(super) room_alias: Option<String>,
    /// Whether it is a member event of the user who is told.
    pub(super) user_is_target: bool,
}

/// An event as it stands in the stripped state of an invitation.
#[derive(Deserialize)]
struct Stripped<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    state_key: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    content: Value,
}

impl Engine {
    /// What is said of a notification. Nothing if the user may not see the event, or does not want to.
    pub(super) async fn notification_body(
        &self,
        pusher: &PusherRecord,
        record: &NotificationRecord,
        counts: Counts,
    ) -> Result<Option<Value>> {
        let Some(scene) = self.scene(&pusher.key.user_id, record).await? else { return Ok(None) };
        let tweaks = tweaks_of(&record.actions);
        let prio = if is_urgent(&scene, &tweaks) { "high" } else { "low" };
        let data = data_of(pusher);
        let is_short = data.get("format").and_then(Value::as_str) == Some(EVENT_ID_ONLY);
        let mut notification = json!({
            "event_id": record.event_id,
            "room_id": record.room_id,
            "prio": prio,
            "counts": shown(counts),
            "devices": [device(pusher, &data, (!is_short).then_some(tweaks))],
        });
        if !is_short && let Some(fields) = notification.as_object_mut() {
            fields.extend(scene.into_fields());
        }
        Ok(Some(json!({ "notification": notification })))
    }

    /// How much is unread, when that is all there is to say. Zero is said too, or no device would ever hear of it.
    pub(super) fn badge_body(pusher: &PusherRecord, counts: Counts) -> Value {
        let mut shown = shown(counts);
        shown.insert("unread".to_owned(), counts.unread.into());
        let devices = [device(pusher, &data_of(pusher), None)];
        json!({ "notification": { "prio": "low", "counts": shown, "devices": devices } })
    }

    /// The event that somebody was notified of, as they see it, if they may.
    pub(super) async fn scene(&self, user_id: &UserId, record: &NotificationRecord) -> Result<Option<Scene>> {
        let Some(membership) = self.storage().membership(user_id, &record.room_id).await? else { return Ok(None) };
        match membership.membership {
            MembershipState::Join => self.scene_inside(user_id, record).await,
            MembershipState::Invite if membership.event_id == record.event_id => {
                self.scene_of_invite(&membership).await
            }
            _ => Ok(None),
        }
    }

    async fn scene_inside(&self, user_id: &UserId, record: &NotificationRecord) -> Result<Option<Scene>> {
        let Some(event) = self.stored_event(&record.event_id).await? else { return Ok(None) };
        let view = match self.view(&record.room_id, user_id).await {
            Ok(view) => view,
            // What cannot be seen is not told, and holds up nothing.
            Err(EngineError::Forbidden(_) | EngineError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(seen) = view.see(event) else { return Ok(None) };
        let pdu = &seen.event.pdu;
        let is_small = pdu.content.get().len() <= CONTENT_BYTES_MAX;
        let content = is_small.then(|| serde_json::from_str(pdu.content.get()).ok()).flatten();
        let room = self.known_room(&record.room_id).await?;
        let member = self.state_pdu(&room, &StateEventType::RoomMember, pdu.sender.as_str()).await?;
        let is_member_event = pdu.event_type.to_string() == MEMBER;
        Ok(Some(Scene {
            room_id: record.room_id.clone(),
            event_type: pdu.event_type.to_string(),
            sender: pdu.sender.clone(),
            content: content.unwrap_or_default(),
            sender_display_name: member.and_then(|pdu| pdu.content_str("displayname")).filter(|name| !name.is_empty()),
            room_name: self.state_text(&room, StateEventType::RoomName, "name").await?,
            room_alias: self.state_text(&room, StateEventType::RoomCanonicalAlias, "alias").await?,
            user_is_target: is_member_event && pdu.state_key.as_deref() == Some(user_id.as_str()),
        }))
    }

    /// All that is known of a room to which somebody is invited is what the invitation tells of it.
    async fn scene_of_invite(&self, record: &MembershipRecord) -> Result<Option<Scene>> {
        if self.hidden_invitations(&record.user_id, std::slice::from_ref(&record.sender)).await? > 0 {
            return Ok(None);
        }
        let stored = self.stored_event(&record.event_id).await?;
        let listed: Vec<Box<RawValue>> = record
            .stripped_state
            .as_deref()
            .and_then(|listed| serde_json::from_str(listed.get()).ok())
            .unwrap_or_default();
        let listed: Vec<Stripped<'_>> =
            listed.iter().filter_map(|event| serde_json::from_str(event.get()).ok()).collect();
        let find = |event_type: &str, state_key: &str| {
            listed.iter().find(|event| event.event_type == event_type && event.state_key == state_key)
        };
        let text = |event_type: &str, state_key: &str, field: &str| {
            let text = find(event_type, state_key)?.content.get(field)?.as_str()?;
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
        let own = find(MEMBER, record.user_id.as_str()).filter(|event| event.sender == record.sender.as_str());
        let content = match &stored {
            Some(event) => serde_json::from_str(event.pdu.content.get()).unwrap_or_default(),
            None => own.map(|event| event.content.clone()).unwrap_or_default(),
        };
        Ok(Some(Scene {
            room_id: record.room_id.clone(),
            event_type: MEMBER.to_owned(),
            sender: record.sender.clone(),
            content,
            sender_display_name: text(MEMBER, record.sender.as_str(), "displayname"),
            room_name: text("m.room.name", "", "name"),
            room_alias: text("m.room.canonical_alias", "", "alias"),
            user_is_target: true,
        }))
    }
}

impl Scene {
    fn into_fields(self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                fields.insert(name.to_owned(), value);
            }
        };
        put("type", self.event_type.into());
        put("sender", self.sender.as_str().into());
        put("content", self.content);
        put("sender_display_name", self.sender_display_name.into());
        put("room_name", self.room_name.into());
        put("room_alias", self.room_alias.into());
        put("user_is_target", if self.user_is_target { true.into() } else { Value::Null });
        fields
    }
}

/// Whether a device is to be woken for it.
fn is_urgent(scene: &Scene, tweaks: &Map<String, Value>) -> bool {
    scene.user_is_target
        || URGENT.contains(&scene.event_type.as_str())
        || tweaks.contains_key("sound")
        || tweaks.get("highlight").is_some_and(|highlight| *highlight != Value::Bool(false))
}

/// How the notification is to be presented, by the actions of the rule.
fn tweaks_of(actions: &RawValue) -> Map<String, Value> {
    let actions: Vec<Value> = serde_json::from_str(actions.get()).unwrap_or_default();
    let tweak = |action: &Value| {
        let name = action.get("set_tweak")?.as_str()?.to_owned();
        Some((name, action.get("value").cloned().unwrap_or(Value::Bool(true))))
    };
    actions.iter().filter_map(tweak).collect()
}

/// What the client gave for the gateway, but for where that is.
fn data_of(pusher: &PusherRecord) -> Map<String, Value> {
    let mut data: Map<String, Value> = serde_json::from_str(pusher.data.get()).unwrap_or_default();
    data.remove("url");
    data
}

fn device(pusher: &PusherRecord, data: &Map<String, Value>, tweaks: Option<Map<String, Value>>) -> Value {
    let mut device = json!({
        "app_id": pusher.key.app_id,
        "pushkey": pusher.key.pushkey,
        "pushkey_ts": pusher.set_ts / 1_000,
        "data": data,
    });
    if let (Some(tweaks), Some(fields)) = (tweaks, device.as_object_mut()) {
        fields.insert("tweaks".to_owned(), tweaks.into());
    }
    device
}

/// Counts of zero are left out.
fn shown(counts: Counts) -> Map<String, Value> {
    let counts = [("unread", counts.unread), ("missed_calls", counts.missed_calls)];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count.into())).collect()
}
