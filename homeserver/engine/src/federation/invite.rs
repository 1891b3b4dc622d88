//! Invitations for our users from other servers: checked, signed, shown to the user.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room>

use std::sync::Arc;

use rules::{
    Change, Pdu,
    change::Standing,
    event::{build::countersign, read_json, read_pdu},
};
use ruma::{
    EventId, RoomId, RoomVersionId, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use storage::Submission;

use super::outliers::outlier_change;
use crate::{Engine, EngineError, Result, accounts::Verdict, rooms::commit_error};

/// How many events of stripped state are kept of what an inviting server shows.
const MAX_STRIPPED_EVENTS: usize = 50;
/// How large they may be together, in bytes.
const MAX_STRIPPED_BYTES: usize = 64 * 1024;

#[derive(Deserialize, Serialize)]
struct Stripped {
    content: serde_json::Map<String, serde_json::Value>,
    sender: ruma::OwnedUserId,
    state_key: String,
    #[serde(rename = "type")]
    event_type: String,
}

impl Engine {
    /// Takes an invitation for one of our users and answers with our signature on it.
    pub async fn federation_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        version: &RoomVersionId,
        raw: &RawValue,
        invite_room_state: &[Box<RawValue>],
    ) -> Result<Box<RawValue>> {
        let rules = version.rules().ok_or_else(|| EngineError::UnsupportedRoomVersion(version.clone()))?;
        let unfit = |reason: String| EngineError::InvalidParam(format!("The invitation does not fit: {reason}"));
        let pdu = self.verified(room_id, &rules, raw).await.map_err(|reason| unfit(reason.to_string()))?;
        if pdu.event_id != event_id {
            return Err(unfit(format!("its id is {}", pdu.event_id)));
        }
        let target = self.invited_user(origin, &pdu).await?;
        if self.invitation_rules(&target).await?.verdict(&pdu.sender) == Verdict::Block {
            return Err(EngineError::InviteBlocked);
        }
        check_create(room_id, &rules, invite_room_state)?;
        let room = self.resident_room(room_id).await?;
        let signed = self.countersigned(&pdu, &rules)?;
        if let Some(room) = &room {
            self.require_acl(room, origin).await?;
        } else {
            let shown = self.verified_to_show(room_id, &rules, invite_room_state).await;
            self.remember_invite(&pdu, &target, &shown).await?;
        }
        Ok(signed)
    }

    async fn invited_user(&self, origin: &ServerName, pdu: &Pdu) -> Result<ruma::OwnedUserId> {
        let unfit =
            || EngineError::invalid_param("This is no invitation of a user of this server by one of the asking server");
        let (target, membership) = pdu.membership().ok_or_else(unfit)?;
        let fits = membership == MembershipState::Invite
            && self.is_local(&target)
            && pdu.sender.server_name() == origin
            && !self.is_local(&pdu.sender);
        if !fits {
            return Err(unfit());
        }
        match self.storage().account(&target).await? {
            Some(account) if !account.deactivated => Ok(target),
            _ => Err(EngineError::not_found("There is no such user")),
        }
    }

    /// What another server shows of a room to a user of ours who is invited, or knocks: from version 12 on, events of the
    /// room, with their signatures. What is none is left out; older servers show some state in its stripped form only.
    pub(crate) async fn verified_to_show(
        &self,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        shown: &[Box<RawValue>],
    ) -> Vec<Box<RawValue>> {
        let shown = &shown[..shown.len().min(MAX_STRIPPED_EVENTS)];
        if !rules.authorization.room_create_event_id_as_room_id {
            return shown.to_vec();
        }
        let verified = self.verified_all(room_id, rules, shown).await;
        let is_create = |event: &&Arc<Pdu>| event.event_type == TimelineEventType::RoomCreate;
        // Its id vouches for it, also when its server is gone.
        let create = shown.iter().find(|raw| is_create_of(room_id, rules, raw)).cloned();
        let others = verified.iter().filter(|event| !is_create(event)).map(|event| event.to_raw_json());
        create.into_iter().chain(others).collect()
    }

    fn countersigned(&self, pdu: &Pdu, rules: &RoomVersionRules) -> Result<Box<RawValue>> {
        let mut object = read_json(&pdu.json).map_err(EngineError::internal)?;
        countersign(&mut object, rules, self.federation().key())?;
        to_raw_value(&object).map_err(EngineError::internal)
    }

    /// Shows the invitation to the user, and keeps the event for services, which are sent the whole of it. When we are in
    /// the room, the event itself will come by a transaction.
    async fn remember_invite(&self, pdu: &Arc<Pdu>, target: &UserId, shown: &[Box<RawValue>]) -> Result<()> {
        // A ban that we know of may be over: who is out of a room does not hear of it.
        let change = Change::Membership {
            user_id: target.to_owned(),
            room_id: pdu.room_id.clone(),
            membership: MembershipState::Invite,
            event_id: pdu.event_id.clone(),
            sender: pdu.sender.clone(),
            stripped_state: Some(stripped_with(pdu, shown)?),
        };
        let event = outlier_change(Arc::clone(pdu), Standing::Outlier);
        let changes = [event, change].into_iter().chain(self.invitation(pdu).await?).collect();
        let _lock = self.inner.rooms.lock(&pdu.room_id).await;
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}

/// From version 12 on, the create event must be among the shown state, and be the one that the room's id names.
fn check_create(room_id: &RoomId, rules: &RoomVersionRules, shown: &[Box<RawValue>]) -> Result<()> {
    if !rules.authorization.room_create_event_id_as_room_id {
        return Ok(());
    }
    if shown.iter().take(MAX_STRIPPED_EVENTS).any(|raw| is_create_of(room_id, rules, raw)) {
        return Ok(());
    }
    Err(EngineError::invalid_param("The invitation shows no create event that the room's id names"))
}

/// Whether an event is the one that the id of a room names, from version 12 on.
fn is_create_of(room_id: &RoomId, rules: &RoomVersionRules, raw: &RawValue) -> bool {
    raw.get().contains("m.room.create")
        && read_pdu(raw.get(), rules)
            .is_ok_and(|(pdu, _)| pdu.event_type == TimelineEventType::RoomCreate && pdu.room_id == room_id)
}

/// What of the shown state is well-formed, cut to the four fields, and the invitation itself.
pub(crate) fn stripped_with(pdu: &Pdu, shown: &[Box<RawValue>]) -> Result<Box<RawValue>> {
    let mut kept: Vec<Box<RawValue>> = Vec::new();
    let mut bytes = 0;
    for raw in shown.iter().take(MAX_STRIPPED_EVENTS) {
        let Some(event) = serde_json::from_str::<Stripped>(raw.get()).ok().and_then(|event| to_raw_value(&event).ok())
        else {
            continue;
        };
        bytes += event.get().len();
        if bytes > MAX_STRIPPED_BYTES {
            break;
        }
        kept.push(event);
    }
    kept.extend(crate::client_event::stripped(pdu));
    to_raw_value(&kept).map_err(EngineError::internal)
}
