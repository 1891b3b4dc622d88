//! The end of a universe: the network heals, the queues empty, everybody says one more thing and reads everything.
//!
//! A server that misses an event because none of those who know it sent it the event learns of the gap by the next event
//! that builds upon it: that is how the protocol heals. Hence the one more thing.

use engine::{EngineError, SendCommand};
use outbound::FlushOutcome;
use ruma::events::room::member::MembershipState;

use crate::{
    Failure,
    actions::{is_refusal, message},
    check::is_told,
    universe::Universe,
};

/// How far the clock is turned before each round: longer than any back-off, of queues and of key fetches.
const ROUND_MS: u64 = 1_000_000;
/// How many rounds it may take until all queues are empty.
const ROUNDS_MAX: usize = 12;
/// How many rooms are looked at: more than there are.
const ROOMS_MAX: usize = 100;
/// How many transactions a queue of a small universe may take.
const TRANSACTIONS_MAX: usize = 200;
/// How often everybody says one more thing.
const FAREWELLS: usize = 2;

impl Universe {
    /// Heals the network, and brings everything to rest.
    pub(crate) async fn settle(&mut self) -> Result<(), Failure> {
        self.network.heal();
        self.trace.note("the network heals".to_owned());
        self.flush_until_quiet().await?;
        for _ in 0..FAREWELLS {
            for room in 0..self.rooms.len() {
                for server in 0..self.servers.len() {
                    self.farewell(room, server).await?;
                }
            }
        }
        for user in 0..self.users.len() {
            self.sync(user).await?;
            self.sync(user).await?;
        }
        Ok(())
    }

    /// One more message by each user of a server who is in the room and may speak. By each, because others may hold some
    /// of them to be out: then they do not build upon what these say, and learn nothing by it.
    async fn farewell(&mut self, room: usize, server: usize) -> Result<(), Failure> {
        let room_id = self.rooms[room].clone();
        let members = self.servers[server].storage().members_with(&room_id, &[MembershipState::Join]).await?;
        let speakers: Vec<usize> = (0..self.users.len())
            .filter(|user| self.users[*user].server == server && members.contains(&self.users[*user].requester.user_id))
            .collect();
        for user in speakers {
            self.clock.advance(1);
            let body = format!("farewell {}", self.next());
            let command = SendCommand { transaction_id: None, ..message(&room_id, &body) };
            match self.engine_of(user).send(self.requester(user), command).await {
                Ok(event_id) => {
                    self.trace.note(format!("{} says farewell: {event_id}", self.user_id(user)));
                    self.flush_until_quiet().await?;
                }
                Err(EngineError::Forbidden(_)) => {}
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn flush_until_quiet(&mut self) -> Result<(), Failure> {
        let (mut quiet, mut complete) = (false, false);
        for round in 0..ROUNDS_MAX {
            if round > 0 {
                self.clock.advance(ROUND_MS);
            }
            quiet = self.flush_round().await?;
            let mut judged = 0;
            for server in &self.servers {
                judged += server.engine.judge_set_aside().await?;
            }
            complete = self.complete_states().await?;
            if complete && quiet && judged == 0 {
                return Ok(());
            }
        }
        // What waits for a server that has left, or denies the one that waits, may wait for days.
        if quiet && complete {
            return Ok(());
        }
        Err(Failure::new(format!("the queues are not empty after {ROUNDS_MAX} rounds: {}", self.waiting().await?)))
    }

    /// Has all servers ask for the members that they were not told of. Whether they know all of the rooms that they are in,
    /// as far as others tell them.
    async fn complete_states(&mut self) -> Result<bool, Failure> {
        let mut complete = true;
        for (number, server) in self.servers.iter().enumerate() {
            server.engine.complete_due_states().await?;
            for partial in server.storage().partial_states(u64::MAX, ROOMS_MAX).await? {
                let joined = server.storage().members_with(&partial.room_id, &[MembershipState::Join]).await?;
                let is_resident = joined.iter().any(|user_id| user_id.server_name() == server.name());
                complete &= !is_resident || !is_told(self, number, &partial).await?;
            }
        }
        Ok(complete)
    }

    /// Empties all queues as far as they can be emptied now. Whether all are empty.
    async fn flush_round(&mut self) -> Result<bool, Failure> {
        let mut quiet = true;
        let order = self.dice.shuffled(0..self.servers.len());
        for server in order {
            let pending = self.servers[server].sender().pending().await?;
            for destination in self.dice.shuffled(pending) {
                quiet = false;
                for _ in 0..TRANSACTIONS_MAX {
                    let outcome = self.servers[server].sender().flush(&destination).await?;
                    self.note_set_aside().await?;
                    if outcome != (FlushOutcome::Sent { more: true }) {
                        break;
                    }
                }
            }
        }
        Ok(quiet)
    }

    async fn waiting(&self) -> Result<String, Failure> {
        let mut text = String::new();
        for server in &self.servers {
            for partial in server.storage().partial_states(u64::MAX, ROOMS_MAX).await? {
                text.push_str(&format!("{} lacks members of {}; ", server.name(), partial.room_id));
            }
            for destination in server.sender().pending().await? {
                let row = server.storage().destination(&destination).await?;
                text.push_str(&format!("{} has something for {destination} ({row:?}); ", server.name()));
            }
        }
        Ok(text)
    }
}
