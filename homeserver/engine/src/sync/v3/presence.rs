//! Who is there, as sync shows it.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#presence>

use ruma::{
    OwnedUserId, UserId,
    api::client::{filter::Filter, sync::sync_events::v3::Presence as Section},
    presence::PresenceState,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::raw;
use crate::{
    Engine, EngineError, Presence, Requester, Result,
    sync::{
        active::ChangedPresences,
        changes::Changes,
        filter::{allows_global_type, allows_sender},
    },
};

/// How many users one answer tells of.
const USERS_MAX: usize = 1_000;

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sender: &'a UserId,
    content: Content,
}

#[derive(Serialize)]
struct Content {
    presence: PresenceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    currently_active: bool,
}

impl Content {
    fn new(presence: Presence, now_ms: u64) -> Self {
        let is_known = presence.last_active_ms > 0;
        Self {
            presence: presence.state,
            status_msg: presence.status_msg,
            last_active_ago: is_known.then(|| now_ms.saturating_sub(presence.last_active_ms)),
            currently_active: presence.currently_active,
        }
    }
}

/// How a user is shown, as an event.
pub(crate) fn presence_event(user_id: &UserId, presence: Presence, now_ms: u64) -> Result<Box<RawValue>> {
    let event = Event { kind: "m.presence", sender: user_id, content: Content::new(presence, now_ms) };
    to_raw_value(&event).map_err(EngineError::internal)
}

impl Engine {
    pub(super) fn v3_presence(&self, requester: &Requester, filter: &Filter, changes: &Changes) -> Result<Section> {
        let mut section = Section::new();
        if !self.settings().presence || !allows_global_type(filter, "m.presence") {
            return Ok(section);
        }
        let now_ms = self.world().clock.now_ms();
        let user_id = &requester.user_id;
        let all: Vec<OwnedUserId>;
        let users = match &changes.presences {
            ChangedPresences::Of(users) => users,
            ChangedPresences::Unknown => {
                all = self.present_among(user_id, &self.inner.sync.users.rooms(user_id));
                &all
            }
        };
        let is_wanted = |other: &&OwnedUserId| !changes.ignored.contains(*other) && allows_sender(filter, other);
        for other in users.iter().filter(is_wanted).take(USERS_MAX) {
            let Some(presence) = self.known_presence(other) else { continue };
            let content = Content::new(presence, now_ms);
            section.events.push(raw(&Event { kind: "m.presence", sender: other, content })?);
        }
        Ok(section)
    }
}
