//! What users sent who wanted to be erased: from then on only those see it whole who were in the room when it was sent.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#account-deactivation>

use std::{borrow::Cow, sync::Arc};

use rules::room::redact;
use ruma::{OwnedUserId, events::room::member::MembershipState};
use serde_json::value::RawValue;
use storage::StoredEvent;

use super::Requester;
use crate::{Engine, Result, rooms::SeenEvent};

impl Engine {
    /// The events as they are to be shown. Those of a time at which the asker was in the room, which nearly all are,
    /// cost nothing.
    pub(crate) async fn without_erased<'a>(
        &self,
        requester: &Requester,
        events: &'a [SeenEvent],
    ) -> Result<Cow<'a, [SeenEvent]>> {
        let concerns = |seen: &SeenEvent| {
            let pdu = &seen.event.pdu;
            seen.membership != MembershipState::Join
                && pdu.state_key.is_none()
                && pdu.sender != requester.user_id
                && self.is_local(&pdu.sender)
        };
        let senders: Vec<OwnedUserId> =
            events.iter().filter(|seen| concerns(seen)).map(|seen| seen.event.pdu.sender.clone()).collect();
        if senders.is_empty() {
            return Ok(Cow::Borrowed(events));
        }
        let erased = self.storage().erased_users(&senders).await?;
        let mut shown = events.to_vec();
        for seen in shown.iter_mut().filter(|seen| concerns(seen) && erased.contains(&seen.event.pdu.sender)) {
            seen.event = self.as_if_redacted(&seen.event).await?;
        }
        Ok(Cow::Owned(shown))
    }

    async fn as_if_redacted(&self, event: &StoredEvent) -> Result<Arc<StoredEvent>> {
        let room = self.known_room(&event.pdu.room_id).await?;
        let mut pdu = (*event.pdu).clone();
        let json = redact::redacted_json(&pdu, &room.rules).unwrap_or_else(|| "{}".into());
        let content = serde_json::from_str::<Content>(&json).ok().map(|fields| fields.content);
        pdu.content =
            content.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"));
        pdu.json = json;
        Ok(Arc::new(StoredEvent { pdu: Arc::new(pdu), ..event.clone() }))
    }
}

#[derive(serde::Deserialize)]
struct Content {
    content: Box<RawValue>,
}
