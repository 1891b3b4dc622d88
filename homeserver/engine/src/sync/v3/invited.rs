//! Rooms that the user is invited to or has knocked on: all that is known of them is the stripped state.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>

use ruma::{
    api::client::sync::sync_events::v3::{InviteState, InvitedRoom, KnockState, KnockedRoom},
    events::AnyStrippedStateEvent,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::MembershipRecord;

use super::Asked;
use crate::{
    Engine, Result,
    accounts::{InvitationRules, Verdict},
    client_event::stripped,
};

#[derive(Deserialize)]
struct Key<'a> {
    #[serde(rename = "type", borrow)]
    event_type: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    state_key: std::borrow::Cow<'a, str>,
}

impl Engine {
    pub(super) async fn v3_invited(&self, asked: &Asked<'_>, record: &MembershipRecord) -> Result<Option<InvitedRoom>> {
        if asked.ignored.contains(&record.sender) || self.hides_invitation(record).await? {
            return Ok(None);
        }
        let events = self.stripped_state_of(record).await?;
        Ok(Some(InviteState::from(events).into()))
    }

    /// Whether the user does not want to see an invitation, which may have come before they said so.
    pub(crate) async fn hides_invitation(&self, record: &MembershipRecord) -> Result<bool> {
        if self.is_notices_user(&record.sender) {
            return Ok(false);
        }
        let rules: InvitationRules = self.invitation_rules(&record.user_id).await?;
        Ok(rules.verdict(&record.sender) != Verdict::Allow)
    }

    pub(super) async fn v3_knocked(&self, record: &MembershipRecord) -> Result<KnockedRoom> {
        let mut state = KnockState::new();
        state.events = self.stripped_state_of(record).await?;
        Ok(state.into())
    }

    /// The stripped state of a room, with the user's own member event.
    pub(in crate::sync) async fn stripped_state_of(
        &self,
        record: &MembershipRecord,
    ) -> Result<Vec<Raw<AnyStrippedStateEvent>>> {
        let listed = record.stripped_state.as_deref().map(RawValue::get);
        let mut events: Vec<Box<RawValue>> =
            listed.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        // Of a room that this server is not in, the member event is known only as part of the stripped state.
        if let Some(member) = self.stored_event(&record.event_id).await? {
            events.retain(|event| !is_member_event(event, record.user_id.as_str()));
            events.extend(stripped(&member.pdu));
        }
        Ok(events.into_iter().map(Raw::from_json).collect())
    }
}

fn is_member_event(event: &RawValue, user_id: &str) -> bool {
    let key = serde_json::from_str::<Key<'_>>(event.get());
    key.is_ok_and(|key| key.event_type == "m.room.member" && key.state_key == user_id)
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    #[test]
    fn member_events_are_recognised() {
        let event = |event_type, state_key| {
            to_raw_value(&json!({"type": event_type, "state_key": state_key, "content": {}})).unwrap()
        };
        assert!(is_member_event(&event("m.room.member", "@a:test"), "@a:test"));
        assert!(!is_member_event(&event("m.room.member", "@b:test"), "@a:test"));
        assert!(!is_member_event(&event("m.room.name", "@a:test"), "@a:test"));
        assert!(!is_member_event(&to_raw_value(&json!([1])).unwrap(), "@a:test"));
    }
}
