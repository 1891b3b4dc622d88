//! Finding users: those who share a room with the asker, and those who are in rooms that anybody may join.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#user-directory>

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use serde_json::{Map, Value};
use storage::Profile;

use super::Requester;
use crate::{Engine, EngineError, Result};

/// How many users one search finds at most.
const RESULTS_MAX: usize = 50;
/// How many member events one search looks at.
const LOOKED_AT_MAX: usize = 2_000;
/// How many passes over new members a search makes before it looks.
const PASSES_MAX: usize = 3;
/// The longest text that is searched for, in characters.
const TERM_CHARS_MAX: usize = 100;
/// How many rooms that two users share are told at once.
const MUTUAL_ROOMS_PAGE: usize = 100;

/// The users that were found, and whether there may be more.
pub type FoundUsers = (Vec<(OwnedUserId, Profile)>, bool);

/// Rooms that two users share.
#[derive(Clone, Debug)]
pub struct MutualRooms {
    /// How many there are.
    pub count: usize,
    /// Those of this page.
    pub joined: Vec<OwnedRoomId>,
    /// From where to read on.
    pub next_batch: Option<String>,
}

impl Engine {
    /// Users in whose id or display name the text occurs, whatever the case of its letters; a text of one or two letters
    /// must begin a word there. Those whose name begins with
    /// it come first. What our users call themselves in one room does not count.
    pub async fn search_users(&self, requester: &Requester, term: &str, limit: usize) -> Result<FoundUsers> {
        let term: String = term.trim().trim_start_matches('@').chars().take(TERM_CHARS_MAX).collect();
        let term = term.to_lowercase();
        if term.is_empty() {
            return Ok((Vec::new(), false));
        }
        self.catch_up_with_names().await?;
        let rows = self.storage().members_like(&requester.user_id, &term, LOOKED_AT_MAX).await?;
        let may_be_more = rows.len() == LOOKED_AT_MAX;
        let mut last_events = BTreeMap::new();
        for (user_id, event_id) in rows {
            if user_id != requester.user_id {
                last_events.insert(user_id, event_id);
            }
        }
        let mut found = Vec::new();
        for (user_id, event_id) in last_events {
            let Some(profile) = self.directory_profile(&user_id, &event_id).await? else { continue };
            if let Some(rank) = rank(&user_id, &profile, &term) {
                found.push((rank, user_id, profile));
            }
        }
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let limit = limit.min(RESULTS_MAX);
        let limited = may_be_more || found.len() > limit;
        Ok((found.into_iter().take(limit).map(|(_, user_id, profile)| (user_id, profile)).collect(), limited))
    }

    /// Takes up the names of those who joined rooms a moment ago. What is left after that is for the task that does the
    /// same without anybody asking.
    async fn catch_up_with_names(&self) -> Result<()> {
        for _ in 0..PASSES_MAX {
            if self.storage().index_members().await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The rooms that both the asker and another user are joined to.
    pub async fn mutual_rooms(&self, requester: &Requester, other: &UserId, from: Option<&str>) -> Result<MutualRooms> {
        if *other == *requester.user_id {
            return Err(EngineError::invalid_param("You share all of your rooms with yourself"));
        }
        let start: usize =
            from.map_or(Ok(0), str::parse).map_err(|_| EngineError::invalid_param("`from` is unknown"))?;
        let (event_type, joined) = (StateEventType::RoomMember, Some(&MembershipState::Join));
        let user_id = &requester.user_id;
        let rooms = self.storage().joined_rooms_with_state(user_id, &event_type, other.as_str(), joined).await?;
        let (count, end) = (rooms.len(), start.saturating_add(MUTUAL_ROOMS_PAGE));
        let joined = rooms.into_iter().skip(start).take(MUTUAL_ROOMS_PAGE).collect();
        Ok(MutualRooms { count, joined, next_batch: (end < count).then(|| end.to_string()) })
    }

    /// What the directory shows of a user: of ours their profile, of others what their member event says. `None` for
    /// accounts that are no more.
    async fn directory_profile(&self, user_id: &UserId, event_id: &ruma::EventId) -> Result<Option<Profile>> {
        if self.is_local(user_id) {
            let account = self.storage().account(user_id).await?;
            return match account {
                Some(account) if !account.deactivated => Ok(self.storage().profile(user_id).await?),
                _ => Ok(None),
            };
        }
        let event = self.stored_event(event_id).await?;
        let content: Map<String, Value> = event.and_then(|event| event.pdu.content_as()).unwrap_or_default();
        let text = |field: &str| content.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
        Ok(Some(Profile { display_name: text("displayname"), avatar_url: text("avatar_url") }))
    }
}

/// How well a user fits, less being better; `None` when not at all.
fn rank(user_id: &UserId, profile: &Profile, term: &str) -> Option<u8> {
    let name = profile.display_name.as_deref().unwrap_or_default().to_lowercase();
    let id = user_id.as_str()[1..].to_lowercase();
    if name == term || id == term {
        return Some(0);
    }
    if name.starts_with(term) || id.starts_with(term) {
        return Some(1);
    }
    (name.contains(term) || id.contains(term)).then_some(2)
}
