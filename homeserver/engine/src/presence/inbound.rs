//! What other servers say of their users' presence.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#presence>

use ruma::{OwnedUserId, ServerName, UserId, presence::PresenceState};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Presence, STATUS_BYTES_MAX};
use crate::{Engine, Result};

/// Of how many users one message is heard. Servers gather those of some seconds into one.
const USERS_MAX: usize = 200;

#[derive(Deserialize)]
struct PresenceContent {
    push: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Update {
    user_id: OwnedUserId,
    presence: PresenceState,
    #[serde(default)]
    status_msg: Option<String>,
    #[serde(default)]
    last_active_ago: Option<u64>,
    #[serde(default)]
    currently_active: bool,
}

impl Engine {
    /// Presences of another server's users, each taken by itself.
    pub(crate) async fn receive_presence(&self, origin: &ServerName, content: &RawValue) {
        if !self.settings().presence {
            return;
        }
        let Ok(content) = serde_json::from_str::<PresenceContent>(content.get()) else { return };
        let updates = content.push.iter().filter_map(|update| serde_json::from_str::<Update>(update.get()).ok());
        for update in updates.take(USERS_MAX).filter(|update| update.user_id.server_name() == origin) {
            match self.may_tell_presence(origin, &update.user_id).await {
                Ok(true) => self.note_remote_presence(update),
                Ok(false) => {}
                Err(error) => tracing::warn!(%origin, %error, "a presence is dropped"),
            }
        }
    }

    /// Whether a user is in a room with one of ours that lets the user's server take part.
    async fn may_tell_presence(&self, origin: &ServerName, user_id: &UserId) -> Result<bool> {
        for room in self.presence_rooms(user_id).await? {
            if room.has_server(self.server_name()) && self.acl_allows(&room, origin).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note_remote_presence(&self, update: Update) {
        let now_ms = self.world().clock.now_ms();
        let presence = Presence {
            state: update.presence,
            status_msg: update.status_msg.filter(|text| !text.is_empty() && text.len() <= STATUS_BYTES_MAX),
            last_active_ms: update.last_active_ago.map_or(0, |ago_ms| now_ms.saturating_sub(ago_ms)),
            currently_active: update.currently_active,
        };
        let noted = self.inner.presence.known.hear(&update.user_id, &presence, now_ms);
        self.heed(&update.user_id, noted);
    }
}
