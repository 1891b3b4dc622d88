//! Telling those who share a room with somebody: our users by their syncs, other servers by what waits for them for a
//! moment, so that one message tells them of many.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#presence>

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use outbound::EduJson;
use rules::RoomSnapshot;
use ruma::{
    OwnedServerName, OwnedUserId, RoomId, UserId, events::room::member::MembershipState, presence::PresenceState,
};
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::{Presence, ROOM_MEMBERS_MAX};
use crate::{Engine, Inner, Result};

/// How long changes wait for others to go along with them.
const GATHERING: Duration = Duration::from_millis(500);
/// How many users one message tells of.
const USERS_PER_EDU_MAX: usize = 50;
/// How many users wait for one server; more is told when they change again.
const USERS_WAITING_MAX: usize = 1_000;

/// Of whom other servers are to be told.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<BTreeMap<OwnedServerName, BTreeSet<OwnedUserId>>>);

impl Outbox {
    /// Says whether somebody must empty it.
    fn add(&self, user_id: &UserId, servers: BTreeSet<OwnedServerName>) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        for server in servers {
            let users = waiting.entry(server).or_default();
            if users.len() < USERS_WAITING_MAX {
                users.insert(user_id.to_owned());
            }
        }
        was_empty && !waiting.is_empty()
    }

    fn take(&self) -> BTreeMap<OwnedServerName, BTreeSet<OwnedUserId>> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Serialize)]
struct PresenceEdu<'a> {
    push: Vec<Update<'a>>,
}

#[derive(Serialize)]
struct Update<'a> {
    user_id: &'a UserId,
    presence: PresenceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<String>,
    last_active_ago: u64,
    currently_active: bool,
}

impl<'a> Update<'a> {
    fn new(user_id: &'a UserId, presence: Presence, now_ms: u64) -> Self {
        Self {
            user_id,
            // Other servers may know no more than the three that the specification has.
            presence: if presence.state.as_str() == "busy" { PresenceState::Online } else { presence.state },
            status_msg: presence.status_msg,
            last_active_ago: now_ms.saturating_sub(presence.last_active_ms),
            currently_active: presence.currently_active,
        }
    }
}

impl Engine {
    /// A user's presence changed: the user's own devices are to hear of it.
    pub(super) fn announce_to_self(&self, user_id: &UserId) {
        self.inner.sync.presence_of_others(user_id, &[user_id.to_owned()]);
    }

    /// A user's presence changed: those who share a room are to hear of it.
    pub(super) async fn announce_to_others(&self, user_id: &UserId) {
        if let Err(error) = self.try_announce_to_others(user_id).await {
            tracing::warn!(user.id = %user_id, %error, "cannot tell others of a presence");
        }
    }

    async fn try_announce_to_others(&self, user_id: &UserId) -> Result<()> {
        self.inner.services.presence_changed(user_id);
        let rooms = self.presence_rooms(user_id).await?;
        let room_ids = rooms.iter().map(|room| &*room.room_id);
        self.inner.sync.presence_changed(user_id, room_ids);
        if self.is_local(user_id) {
            self.present_to_servers(user_id, &rooms);
        }
        Ok(())
    }

    /// Other servers take who is not heard of for half an hour for gone.
    pub(super) async fn repeat_to_servers(&self, user_id: &UserId) {
        match self.presence_rooms(user_id).await {
            Ok(rooms) => self.present_to_servers(user_id, &rooms),
            Err(error) => tracing::warn!(user.id = %user_id, %error, "cannot repeat a presence"),
        }
    }

    fn present_to_servers(&self, user_id: &UserId, rooms: &[Arc<RoomSnapshot>]) {
        let servers = rooms.iter().flat_map(|room| room.servers()).filter(|server| *server != self.server_name());
        let servers: BTreeSet<OwnedServerName> = servers.map(ToOwned::to_owned).collect();
        if self.inner.presence.outbox.add(user_id, servers) {
            tokio::spawn(gather(Arc::downgrade(&self.inner)));
        }
    }

    /// One of our users joined a room: the user hears who is present there, and those there hear of the user.
    pub(crate) async fn introduce(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        let Some(room) = self.room(room_id).await?.filter(|room| room.joined_count() <= ROOM_MEMBERS_MAX) else {
            return Ok(());
        };
        let known = &self.inner.presence.known;
        let mut present = known.present();
        present.retain(|other| room.membership(other) == MembershipState::Join);
        if present.iter().any(|other| other == user_id) {
            self.inner.sync.presence_changed(user_id, [room_id].into_iter());
            self.present_to_servers(user_id, std::slice::from_ref(&room));
        }
        self.inner.sync.presence_of_others(user_id, &present);
        Ok(())
    }

    fn send_presence(&self) {
        let now_ms = self.world().clock.now_ms();
        for (server, users) in self.inner.presence.outbox.take() {
            let users: Vec<OwnedUserId> = users.into_iter().collect();
            for users in users.chunks(USERS_PER_EDU_MAX) {
                let presence = |user_id: &OwnedUserId| self.inner.presence.known.get(user_id, now_ms);
                let push = users.iter().filter_map(|user_id| Some(Update::new(user_id, presence(user_id)?, now_ms)));
                match to_raw_value(&PresenceEdu { push: push.collect() }) {
                    Ok(content) => {
                        let edu = EduJson { edu_type: "m.presence".to_owned(), content };
                        // It may replace what tells of the same users, and of nobody else.
                        let names: Vec<&str> = users.iter().map(|user_id| user_id.as_str()).collect();
                        let key = format!("m.presence {}", names.join(" "));
                        self.sender().queue_ephemeral(vec![server.clone()], key, edu);
                    }
                    Err(error) => tracing::error!(%error, "a presence cannot be written"),
                }
            }
        }
    }
}

/// Sends what has gathered, after a moment.
async fn gather(engine: Weak<Inner>) {
    tokio::time::sleep(GATHERING).await;
    if let Some(inner) = engine.upgrade() {
        (Engine { inner }).send_presence();
    }
}
