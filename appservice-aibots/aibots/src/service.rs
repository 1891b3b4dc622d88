//! The service: its parts, and what they share.

mod life;
mod lobby;
mod presence;
mod rooms;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::future::Cache;
use rules::world::World;
use tokio::sync::{Mutex, Notify};

use crate::budget::Budget;
use crate::configuration::{BotSettings, Configuration};
use crate::conversation::limits::{Permission, Window};
use crate::conversation::room::Room;
use crate::devices::Devices;
use crate::matrix::Homeserver;
use crate::providers::{Candidate, Completions};
use crate::registration::Tokens;
use crate::store::Store;
use crate::tools::Tools;

pub use life::{CheckError, Running, StartError, check, start, start_at};

/// How many rooms are kept in memory as their state says.
const ROOMS_MAX: u64 = 1000;

/// For how long at most, should a change of the state never reach us.
const ROOM_KEPT: Duration = Duration::from_mins(10);

/// For how many rooms, users and bots the replies of the last minute are counted before those with none are forgotten.
const WINDOWS_MAX: usize = 4096;

/// A bot.
pub(crate) struct Bot {
    pub(crate) user_id: String,
    pub(crate) settings: BotSettings,
    /// The models that speak for it, the first that can.
    pub(crate) candidates: Vec<Candidate>,
    /// Whether it is given pictures.
    pub(crate) sees: bool,
    /// Whether its provider has failed last time.
    pub(crate) is_failing: AtomicBool,
}

impl Bot {
    pub(crate) fn has_failed(&self, has_failed: bool) -> bool {
        self.is_failing.swap(has_failed, Ordering::Relaxed) != has_failed
    }
}

/// The service.
pub(crate) struct Service {
    pub(crate) configuration: Configuration,
    pub(crate) world: World,
    pub(crate) store: Store,
    pub(crate) homeserver: Homeserver,
    pub(crate) completions: Completions,
    pub(crate) tools: Tools,
    pub(crate) budget: Budget,
    /// Something was received, or has become due.
    pub(crate) work: Notify,
    /// A bot's provider has failed, or works again.
    pub(crate) mood: Notify,
    pub(crate) devices: Devices,
    /// Keys of encrypted rooms have come.
    pub(crate) keys: Notify,
    tokens: Tokens,
    bots: Vec<Bot>,
    rooms: Cache<String, Arc<Room>>,
    room_changes: rooms::RoomChanges,
    /// By room, user or bot: their ids differ.
    windows: Mutex<BTreeMap<String, Window>>,
    /// When a room was told last that its bots cannot answer.
    apologies: Mutex<BTreeMap<String, u64>>,
}

impl Service {
    pub(crate) fn hs_token(&self) -> &str {
        &self.tokens.hs_token
    }

    pub(crate) fn bots(&self) -> &[Bot] {
        &self.bots
    }

    pub(crate) fn bot(&self, user_id: &str) -> Option<&Bot> {
        self.bots.iter().find(|bot| bot.user_id == user_id)
    }

    /// Whether a user is of this service.
    pub(crate) fn is_ours(&self, user_id: &str) -> bool {
        self.bot(user_id).is_some()
            || user_id == self.configuration.user_id(&self.configuration.service.sender_localpart)
    }

    /// A model by its name alone, if the operator has set it up: what others cost is nobody's choice but theirs. Where
    /// several providers have it, the one that is preferred, or the first by name.
    pub(crate) fn model(&self, model: &str, preferred: &str) -> Option<Candidate> {
        let of_bots = self.bots.iter().flat_map(|bot| bot.candidates.iter().cloned());
        let of_providers = self.configuration.providers.iter().flat_map(|(provider, settings)| {
            settings.models.keys().map(|model| Candidate { provider: provider.clone(), model: model.clone() })
        });
        let known: BTreeSet<Candidate> = of_bots.chain(of_providers).filter(|known| known.model == model).collect();
        known.iter().find(|known| known.provider == preferred).or_else(|| known.first()).cloned()
    }

    /// Whether there is no model behind a bot, whose words are those of a few rules then.
    pub(crate) fn is_offline(&self, bot: &Bot) -> bool {
        bot.candidates.iter().all(|candidate| self.completions.is_offline(candidate))
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.world.clock.now_ms()
    }

    /// Keeps the events of a transaction, and lets others work it off.
    pub(crate) async fn receive(&self, events: &[(String, String, String)]) -> Result<(), sqlx::Error> {
        let new = self.store.receive(events, self.now_ms()).await?;
        metrics::counter!("aibots_events_received_total").increment(new);
        for (_, room_id, event) in events {
            // Not only when it is its turn: an answer may be on its way into a room that is encrypted from now on.
            if event.contains("\"state_key\"") {
                self.forget_room(room_id).await;
            }
        }
        if new > 0 {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Asks for a reply of a bot to a user in a room.
    pub(crate) async fn ask_for_reply(&self, room_id: &str, user_id: &str, bot: &str) -> Permission {
        let limits = &self.configuration.conversation;
        let asked = [
            (room_id, Some(limits.replies_per_minute)),
            (user_id, limits.replies_per_minute_to_user),
            (bot, limits.replies_per_minute_of_bot),
        ];
        let asked = asked.map(|(whose, replies_max)| replies_max.map(|replies_max| (whose, replies_max)));
        let mut windows = self.windows.lock().await;
        let now_ms = self.now_ms();
        if windows.len().saturating_add(asked.len()) > WINDOWS_MAX {
            windows.retain(|_, window| !window.is_idle(now_ms));
            if windows.len().saturating_add(asked.len()) > WINDOWS_MAX {
                return Permission::Refused;
            }
        }
        for (whose, replies_max) in asked.iter().flatten() {
            let window = windows.entry((*whose).to_owned()).or_default();
            if !window.has_room(now_ms, *replies_max) {
                return window.refuse(now_ms);
            }
        }
        for (whose, _) in asked.iter().flatten() {
            windows.entry((*whose).to_owned()).or_default().take(now_ms);
        }
        Permission::Granted
    }

    /// Whether a room is to be told that something is wrong that only the operator can put right: once an hour.
    pub(crate) async fn is_apology_due(&self, room_id: &str) -> bool {
        const HOUR_MS: u64 = 60 * 60 * 1000;
        let now_ms = self.now_ms();
        let mut apologies = self.apologies.lock().await;
        apologies.retain(|_, told_ms| now_ms < told_ms.saturating_add(HOUR_MS));
        if apologies.contains_key(room_id) || apologies.len() >= WINDOWS_MAX {
            return false;
        }
        apologies.insert(room_id.to_owned(), now_ms);
        true
    }
}
