//! What happens without the users: time passes, queues are flushed, connections break, servers restart.

use outbound::FlushOutcome;

use super::Kind;
use crate::{Failure, universe::Universe};

/// After how long a server whose keys were not to be had is asked for them again.
const KEYS_PAUSE_MS: u64 = 900_000;
/// How many rooms are looked at: more than there are.
const ROOMS_MAX: usize = 100;
/// How long nothing happens at most.
const PAUSE_MAX_MS: usize = 40_000;

impl Universe {
    pub(super) async fn turn_the_world(&mut self, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::Restart => self.restart().await,
            Kind::Rotate => self.rotate().await,
            Kind::Cut => self.cut(),
            Kind::Mend => {
                self.network.mend();
                self.note(kind, "the network", "", Ok("done".to_owned()))
            }
            Kind::Flush => self.flush_one().await,
            Kind::FlushAll => self.flush_all().await,
            Kind::Complete => self.complete().await,
            _ => {
                let pause_ms = self.dice.below(PAUSE_MAX_MS);
                self.clock.advance(pause_ms as u64);
                self.note(kind, "time", "", Ok(format!("{pause_ms} ms")))
            }
        }
    }

    /// A server asks for the members of rooms that it entered without being told of them.
    async fn complete(&mut self) -> Result<(), Failure> {
        let server = self.dice.below(self.servers.len());
        let homeserver = &self.servers[server];
        let lacking = homeserver.storage().partial_states(u64::MAX, ROOMS_MAX).await?.len();
        homeserver.engine.complete_due_states().await?;
        let left = homeserver.storage().partial_states(u64::MAX, ROOMS_MAX).await?.len();
        if left < lacking {
            self.trace.count("states that became complete");
        }
        let who = homeserver.name().to_string();
        self.note(Kind::Complete, &who, "", Ok(format!("{left} left")))
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        let server = self.dice.below(self.servers.len());
        self.servers[server].restart().await?;
        let who = self.servers[server].name().to_string();
        self.note(Kind::Restart, &who, "", Ok("done".to_owned()))
    }

    /// A server changes its key. The others hear of the new one in fair weather, after a while: see
    /// `Universe::introduce`.
    async fn rotate(&mut self) -> Result<(), Failure> {
        let server = self.dice.below(self.servers.len());
        let number = self.next();
        self.servers[server].rotate(number).await?;
        let (who, key_id) = (self.servers[server].name().to_owned(), self.servers[server].key_id());
        self.network.heal();
        self.clock.advance(KEYS_PAUSE_MS);
        for other in self.servers.iter().filter(|other| *other.name() != *who) {
            other.hear_of_key(&who, &key_id).await?;
        }
        self.network.set_weather(self.character.weather);
        self.note(Kind::Rotate, who.as_str(), "", Ok(format!("now {key_id}")))
    }

    /// Cuts the connection of two servers, or of one server with all others, in one direction or in both.
    fn cut(&mut self) -> Result<(), Failure> {
        let one = self.dice.below(self.servers.len());
        let alone = self.dice.percent(30);
        let other = (one + self.dice.between(1, self.servers.len() - 1)) % self.servers.len();
        let both_ways = self.dice.percent(70);
        for peer in 0..self.servers.len() {
            if peer != one && (alone || peer == other) {
                self.network.cut(self.servers[one].name(), self.servers[peer].name());
                if both_ways {
                    self.network.cut(self.servers[peer].name(), self.servers[one].name());
                }
            }
        }
        let what = if alone { "from all".to_owned() } else { format!("from {}", self.servers[other].name()) };
        let what = if both_ways { what } else { format!("{what}, one way") };
        let who = self.servers[one].name().to_string();
        self.note(Kind::Cut, &who, &what, Ok("done".to_owned()))
    }

    /// One attempt of one queue that has something to send.
    async fn flush_one(&mut self) -> Result<(), Failure> {
        let server = self.dice.below(self.servers.len());
        let pending = self.servers[server].sender().pending().await?;
        let Some(destination) = self.dice.pick_any(&pending).cloned() else { return Ok(()) };
        let outcome = self.servers[server].sender().flush(&destination).await?;
        let who = self.servers[server].name().to_string();
        self.note(Kind::Flush, &who, destination.as_str(), Ok(format!("{outcome:?}")))
    }

    /// All queues of one server, each until it is empty or fails.
    async fn flush_all(&mut self) -> Result<(), Failure> {
        let server = self.dice.below(self.servers.len());
        let who = self.servers[server].name().to_string();
        let pending = self.servers[server].sender().pending().await?;
        for destination in self.dice.shuffled(pending) {
            let mut outcome = FlushOutcome::Sent { more: true };
            while outcome == (FlushOutcome::Sent { more: true }) {
                outcome = self.servers[server].sender().flush(&destination).await?;
            }
            self.note(Kind::FlushAll, &who, destination.as_str(), Ok(format!("{outcome:?}")))?;
        }
        Ok(())
    }
}
