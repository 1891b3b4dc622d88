//! What servers are told once all members of a room are known: which devices our users have, and what these said while a
//! server was in the room without our knowing.

use std::collections::HashMap;

use rules::{Change, change::Position};
use ruma::{OwnedServerName, ServerName};
use storage::{PartialStateRecord, ServerStay, StoredEvent};

use crate::{Engine, Result, federation::replay::Replay};

/// How many devices are told of to servers that should have been told before, counted once for each server.
const MAX_DEVICES_TOLD: usize = 50_000;
/// How many events of ours are sent to servers of which we did not know that they were in the room, counted the same.
const MAX_RESENT: usize = 50_000;

/// To which servers what was sent, by the times at which we held them to be in the room.
struct Told(HashMap<OwnedServerName, Vec<ServerStay>>);

impl Told {
    fn new(stays: Vec<ServerStay>) -> Self {
        let mut told: HashMap<_, Vec<_>> = HashMap::new();
        for stay in stays {
            told.entry(stay.server.clone()).or_default().push(stay);
        }
        Self(told)
    }

    fn of(&self, server: &ServerName) -> &[ServerStay] {
        self.0.get(server).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a server was sent what is at a position.
    fn contains(&self, server: &ServerName, position: Position) -> bool {
        self.of(server).iter().any(|stay| stay.contains(position))
    }

    /// Whether a server was in the room at some time since our join that it was not told of.
    fn lacks(&self, server: &ServerName, replay: &Replay, joined_at: Position) -> bool {
        if self.of(server).iter().any(|stay| stay.since < joined_at && stay.until.is_none()) {
            return false;
        }
        let ends = self.of(server).iter().filter_map(|stay| stay.until);
        // Where nothing changes, what is so at first is so until the next change.
        let mut begins = std::iter::once(joined_at).chain(ends).chain(replay.changes()).map(|position| position + 1);
        begins.any(|position| replay.room_before(position).has_server(server) && !self.contains(server, position))
    }
}

impl Engine {
    /// Tells servers what they were not told while we did not know, or did not know any more, that they were in the room.
    pub(super) async fn missed_changes(&self, record: &PartialStateRecord, replay: &Replay) -> Result<Vec<Change>> {
        let told = Told::new(self.storage().room_servers_since(&record.room_id, record.position).await?);
        let others = replay.servers.iter().filter(|server| **server != *self.server_name());
        let lacking = others.filter(|server| told.lacks(server, replay, record.position));
        let lacking: Vec<OwnedServerName> = lacking.cloned().collect();
        let mut changes = self.missed_devices(record, &lacking, replay).await?;
        if !lacking.is_empty() {
            changes.extend(self.missed_events(record, &lacking, &told, replay));
        }
        Ok(changes)
    }

    /// Our users' devices, for the servers in the room that shared none with them when they came in: which these are is only
    /// known now. And what has changed since, for those that were in the room meanwhile and were not told.
    async fn missed_devices(
        &self,
        record: &PartialStateRecord,
        lacking: &[OwnedServerName],
        replay: &Replay,
    ) -> Result<Vec<Change>> {
        let mut residents: Vec<_> = replay.room.residents().cloned().collect();
        residents.sort_unstable();
        let mut changes = Vec::new();
        let mut told = 0;
        for user_id in residents {
            let following = self.storage().servers_sharing_whole_rooms(&user_id, record.position).await?;
            let new = self.servers_besides(&replay.room, &following);
            let missed = self.key_server().missed_changes(&user_id, record.position, lacking).await?;
            let introduced = self.key_server().late_introduction(&user_id, &new).await?;
            for change in missed.into_iter().chain(introduced) {
                told += if let Change::DeviceList { servers, .. } = &change { servers.len() } else { 0 };
                if told > MAX_DEVICES_TOLD {
                    return Ok(changes);
                }
                changes.push(change);
            }
        }
        Ok(changes)
    }

    /// What our users said while servers were in the room that were not sent it: the newest of it. The join by which we
    /// came in was made known by the server that let us in.
    fn missed_events(
        &self,
        record: &PartialStateRecord,
        servers: &[OwnedServerName],
        told: &Told,
        replay: &Replay,
    ) -> Vec<Change> {
        let is_ours = |event: &StoredEvent| self.is_local(&event.pdu.sender) && event.pdu.event_id != record.event_id;
        let ours = replay.outcomes.iter().rev().filter(|outcome| outcome.is_accepted() && is_ours(&outcome.event));
        let missed = ours.filter_map(|outcome| {
            let (before, position) = (replay.before(&outcome.event)?, outcome.event.order?);
            let there = replay.room_before(position);
            let is_missed = |server: &&OwnedServerName| {
                (before.has_server(server) || there.has_server(server)) && !told.contains(server, position)
            };
            let servers: Vec<_> = servers.iter().filter(is_missed).cloned().collect();
            (!servers.is_empty()).then(|| Change::Resend { event_id: outcome.event.pdu.event_id.clone(), servers })
        });
        let mut missed: Vec<Change> = missed.take(MAX_RESENT / servers.len()).collect();
        missed.reverse();
        missed
    }
}
