//! Invitations and knocks of our users that another server ends, in rooms that we are not in: of such a room there is no
//! state to check the event against, so it counts only against what the user was shown before.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use std::sync::Arc;

use rules::{Change, Pdu, change::Standing, event::read_pdu};
use ruma::{
    OwnedServerName, OwnedUserId, RoomId, RoomVersionId, UserId, events::room::member::MembershipState,
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::{MembershipRecord, Submission};

use super::{outliers::outlier_change, verify::Dropped};
use crate::{Engine, push::all_read, rooms::commit_error};

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    content: serde_json::Map<String, serde_json::Value>,
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: String,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<String>,
}

impl Engine {
    /// Takes an event of a room that we are not in, if it ends an invitation or a knock of one of our users. Everything
    /// else is not for us.
    pub(crate) async fn receive_rescission(&self, room_id: &RoomId, raw: &RawValue) -> Result<(), Dropped> {
        let Some(record) = self.waiting_record(room_id, raw).await? else { return Err(Dropped::OtherRoom) };
        let rules = rules_shown(&record).ok_or(Dropped::OtherRoom)?;
        let pdu = self.verified(room_id, &rules, raw).await?;
        // The user may have knocked again while keys were fetched, or have been invited again.
        let _lock = self.inner.rooms.lock(room_id).await;
        let record = self.waiting_record(room_id, raw).await?;
        let record = record.filter(|record| ends(&pdu, record, &shown_state(record))).ok_or(Dropped::OtherRoom)?;
        self.commit_rescission(&record, &pdu).await
    }

    /// The id of an event of a room that we are not in, as far as we know how that room makes them.
    pub(crate) async fn event_id_elsewhere(&self, room_id: &RoomId, raw: &RawValue) -> Option<String> {
        let record = self.waiting_record(room_id, raw).await.ok()??;
        let rules = rules_shown(&record)?;
        read_pdu(raw.get(), &rules).ok().map(|(pdu, _)| pdu.event_id.to_string())
    }

    /// The invitation or knock of the local user that the event is about.
    async fn waiting_record(&self, room_id: &RoomId, raw: &RawValue) -> Result<Option<MembershipRecord>, Dropped> {
        let Ok(Target { event_type, state_key: Some(target) }) = serde_json::from_str(raw.get()) else {
            return Ok(None);
        };
        let target = <&UserId>::try_from(target.as_str()).ok().filter(|target| self.is_local(target));
        let Some(target) = target.filter(|_| event_type == "m.room.member") else { return Ok(None) };
        let record = self.storage().membership(target, room_id).await?;
        Ok(record.filter(|record| matches!(record.membership, MembershipState::Invite | MembershipState::Knock)))
    }

    async fn commit_rescission(&self, record: &MembershipRecord, pdu: &Arc<Pdu>) -> Result<(), Dropped> {
        let Some((_, membership)) = pdu.membership() else { return Err(Dropped::OtherRoom) };
        let change = Change::Membership {
            user_id: record.user_id.clone(),
            room_id: record.room_id.clone(),
            membership,
            event_id: pdu.event_id.clone(),
            sender: pdu.sender.clone(),
            stripped_state: None,
        };
        let read = all_read(&record.room_id, &record.user_id);
        let changes = vec![outlier_change(pdu.clone(), Standing::Outlier), change, read];
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map(drop).map_err(|error| commit_error(error).into())
    }
}

/// Whether the event ends what the record says, and comes from somebody who can be believed to be able to: the power of
/// others in the room is not known here. An invitation is taken back by who has sent it; a knock is refused by a user of
/// a server that has shown us something of the room.
fn ends(pdu: &Pdu, record: &MembershipRecord, shown: &[Shown]) -> bool {
    let Some((target, membership)) = pdu.membership() else { return false };
    let is_end = target == record.user_id && matches!(membership, MembershipState::Leave | MembershipState::Ban);
    let server = pdu.sender.server_name();
    let is_believed = match record.membership {
        MembershipState::Invite => pdu.sender == record.sender,
        _ => shown.iter().any(|event| event.sender.server_name() == server),
    };
    // It is authorised by the membership that it ends: an end of an earlier one is none of this.
    is_end && is_believed && pdu.auth_events.contains(&record.event_id)
}

fn shown_state(record: &MembershipRecord) -> Vec<Shown> {
    let listed = record.stripped_state.as_deref().map_or("[]", RawValue::get);
    let listed: Vec<Box<RawValue>> = serde_json::from_str(listed).unwrap_or_default();
    listed.iter().filter_map(|event| serde_json::from_str(event.get()).ok()).collect()
}

fn room_version(shown: &[Shown]) -> Option<RoomVersionId> {
    let create = shown.iter().find(|event| event.event_type == "m.room.create")?;
    let version = create.content.get("room_version").map_or(Some("1"), |version| version.as_str())?;
    RoomVersionId::try_from(version).ok()
}

/// The rules of the room's version, if the user was shown which one it is.
pub(crate) fn rules_shown(record: &MembershipRecord) -> Option<RoomVersionRules> {
    room_version(&shown_state(record))?.rules()
}

/// The servers whose users a user was shown: they were in the room then.
pub(crate) fn servers_shown(record: &MembershipRecord) -> Vec<OwnedServerName> {
    shown_state(record).iter().map(|event| event.sender.server_name().to_owned()).collect()
}
