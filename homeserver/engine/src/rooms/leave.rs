//! Leaving rooms, turning down invitations, forgetting rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites>

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rules::{
    Change, Pdu,
    change::Standing,
    event::{
        Draft,
        build::{LegacyParts, build},
    },
    room::member::{self, Action},
};
use ruma::{
    OwnedServerName, RoomId, UserId, events::room::member::MembershipState, room_version_rules::EventIdFormatVersion,
};
use storage::{MembershipRecord, Submission};

use crate::{
    Engine, EngineError, Requester, Result,
    federation::{outlier_change, rules_shown, servers_shown},
    push::all_read,
    rooms::{moderate::Manner, remote::commit_error},
};

/// How many servers are asked to make known that our user does not come: the user waits for it.
const MAX_SERVERS_ASKED: usize = 3;

impl Engine {
    /// Leaves a room, or turns down an invitation to it.
    pub async fn leave(&self, requester: &Requester, room_id: &RoomId, manner: impl Into<Manner> + Send) -> Result<()> {
        let manner = manner.into();
        let user_id = &requester.user_id;
        let record = self
            .storage()
            .membership(user_id, room_id)
            .await?
            .ok_or_else(|| EngineError::forbidden("You are not in this room"))?;
        if record.membership == MembershipState::Leave {
            return Ok(());
        }
        if record.membership == MembershipState::Invite {
            self.check_not_notice_room(user_id, room_id).await?;
        }
        if self.leaves_here(user_id, room_id).await? {
            return self.act(requester, room_id, Action::Leave, user_id, manner).await.map(drop);
        }
        match record.membership {
            MembershipState::Invite | MembershipState::Knock => self.refuse_invite(&record, &manner).await,
            _ => Err(EngineError::forbidden("You are not in this room")),
        }
    }

    /// Whether the leave needs no other server: our users are in the room, or were the last to be, and it knows of the
    /// user's invitation.
    async fn leaves_here(&self, user_id: &UserId, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.room(room_id).await? else { return Ok(false) };
        let is_known = matches!(room.membership(user_id), MembershipState::Invite | MembershipState::Knock);
        Ok(room.has_server(self.server_name()) || is_known && self.is_ours_to_change(&room))
    }

    /// Leaves a room that no user of this server is in. When no server helps, the invitation is gone for our user all
    /// the same. The event by which the user left is kept for them to see.
    async fn refuse_invite(&self, record: &MembershipRecord, manner: &Manner) -> Result<()> {
        let servers = self.servers_to_leave_by(record);
        let left = self.leave_by_servers(record, &servers, manner).await;
        let left = left.map_or_else(
            |error| {
                tracing::info!(room.id = %record.room_id, %error, "invitation refused without the other server's help");
                self.unsent_leave(record, manner)
            },
            Some,
        );
        let event_id = left.as_ref().map_or(&record.event_id, |pdu| &pdu.event_id).clone();
        let change = Change::Membership {
            user_id: record.user_id.clone(),
            room_id: record.room_id.clone(),
            membership: MembershipState::Leave,
            event_id,
            sender: record.user_id.clone(),
            stripped_state: record.stripped_state.clone(),
        };
        let read = all_read(&record.room_id, &record.user_id);
        let event = left.map(|pdu| outlier_change(pdu, Standing::Outlier));
        let submission = Submission { room: None, changes: event.into_iter().chain([change, read]).collect() };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }

    /// The leave of a user of which no server could be told, if we know how that room makes events. It builds on all that
    /// we know of the room, the invitation.
    fn unsent_leave(&self, record: &MembershipRecord, manner: &Manner) -> Option<Arc<Pdu>> {
        let rules = rules_shown(record)?;
        let content = member::content(None, None, manner.reason(), None);
        let intent = member::change(&record.user_id, &record.user_id, &MembershipState::Leave, content);
        let legacy = matches!(rules.event_id_format, EventIdFormatVersion::V1)
            .then(|| LegacyParts { id_seed: self.world().random_string(18), reference_hashes: BTreeMap::new() });
        let draft = Draft {
            room_id: Some(record.room_id.clone()),
            sender: intent.sender,
            event_type: intent.event_type,
            state_key: intent.state_key,
            content: intent.content,
            redacts: None,
            prev_events: vec![record.event_id.clone()],
            auth_events: vec![record.event_id.clone()],
            depth: 1,
            origin_server_ts: manner.origin_server_ts.unwrap_or_else(|| self.world().clock.now()),
            legacy,
        };
        build(draft, &rules, self.federation().key()).ok().map(Arc::new)
    }

    /// Servers that may be in the room: of who invited the user, of the room's id, and of whom the user was shown.
    fn servers_to_leave_by(&self, record: &MembershipRecord) -> Vec<OwnedServerName> {
        let inviter = record.sender.server_name().to_owned();
        let room_server = record.room_id.server_name().map(ToOwned::to_owned);
        let mut servers: Vec<OwnedServerName> = [Some(inviter), room_server].into_iter().flatten().collect();
        servers.extend(servers_shown(record));
        let mut seen = HashSet::new();
        servers.retain(|server| server != self.server_name() && seen.insert(server.clone()));
        servers.truncate(MAX_SERVERS_ASKED);
        servers
    }

    /// Forgets a room that was left: nothing of it is shown any more.
    pub async fn forget(&self, requester: &Requester, room_id: &RoomId) -> Result<()> {
        let record = self.storage().membership(&requester.user_id, room_id).await?;
        match record.map(|record| record.membership) {
            None => Err(EngineError::forbidden("You were never in this room")),
            Some(MembershipState::Leave | MembershipState::Ban) => {
                self.storage().forget_room(&requester.user_id, room_id).await?;
                self.inner.sync.forget_rooms(&requester.user_id);
                Ok(())
            }
            Some(_) => Err(EngineError::NotLeft),
        }
    }
}
