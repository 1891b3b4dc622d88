//! What users want to be notified of, ready to be asked about each event.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use moka::sync::Cache;
use rules::push::{PushRules, default_rules};
use ruma::{OwnedEventId, OwnedUserId, UserId, user_id};

use super::{
    audience::Audiences,
    delivery::Delivery,
    rules::{PUSH_RULES, stored_rules},
};
use crate::{Engine, Result, locks::Locks, sync::IGNORED_USERS, sync::ignored_by};

/// How many users' preferences are kept. Those of users who changed nothing are shared and cost some 100 bytes each,
/// others some kilobytes.
const PREFERENCES_CAPACITY: u64 = 100_000;
/// How many display names are kept, by member event: at some 150 bytes each, 8 MB.
const DISPLAY_NAMES_CAPACITY: u64 = 50_000;
/// Preferences of how many users are read at once.
const LOADED_AT_ONCE: usize = 500;

/// What one user wants to be notified of.
pub(super) struct Preferences {
    pub(super) rules: PushRules,
    /// Whose events notify of nothing.
    pub(super) ignored: HashSet<OwnedUserId>,
}

/// What the engine keeps in memory about notifications.
pub(crate) struct Push {
    preferences: Cache<OwnedUserId, Arc<Preferences>>,
    /// Those of users who changed nothing.
    pub(super) unchanged: Arc<Preferences>,
    /// How often preferences were forgotten.
    forgotten: RwLock<u64>,
    /// Display names in lower case, by member event; empty where there is none.
    display_names: Cache<OwnedEventId, Arc<str>>,
    /// Who in each room is asked one by one.
    pub(super) audiences: Audiences,
    /// One change of each user's rules, or pushers, at a time.
    pub(super) changing: Locks,
    /// The telling of pushers.
    pub(super) delivery: Delivery,
}

impl Push {
    pub(crate) fn new() -> Self {
        let anybody = user_id!("@anybody:invalid");
        let rules = PushRules::new(&default_rules(anybody), anybody);
        Self {
            preferences: Cache::new(PREFERENCES_CAPACITY),
            unchanged: Arc::new(Preferences { rules, ignored: HashSet::new() }),
            forgotten: RwLock::new(0),
            display_names: Cache::new(DISPLAY_NAMES_CAPACITY),
            audiences: Audiences::new(),
            changing: Locks::default(),
            delivery: Delivery::default(),
        }
    }

    /// A user's account data changed that is not of a room.
    pub(crate) fn forget(&self, user_id: &UserId) {
        let mut forgotten = self.forgotten.write().unwrap_or_else(PoisonError::into_inner);
        *forgotten += 1;
        self.preferences.invalidate(user_id);
        drop(forgotten);
        self.audiences.heed(user_id);
    }

    fn forgotten(&self) -> RwLockReadGuard<'_, u64> {
        self.forgotten.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The preferences of users, in the same order. None of them may be named twice.
    pub(super) async fn preferences(&self, user_ids: &[OwnedUserId]) -> Result<Vec<Arc<Preferences>>> {
        let cache = &self.inner.push.preferences;
        let mut known: HashMap<OwnedUserId, Arc<Preferences>> =
            user_ids.iter().filter_map(|user_id| Some((user_id.clone(), cache.get(user_id)?))).collect();
        let missing: Vec<OwnedUserId> = user_ids.iter().filter(|id| !known.contains_key(*id)).cloned().collect();
        for user_ids in missing.chunks(LOADED_AT_ONCE) {
            self.load_preferences(user_ids, &mut known).await?;
        }
        let of = |user_id| known.get(user_id).unwrap_or(&self.inner.push.unchanged).clone();
        Ok(user_ids.iter().map(of).collect())
    }

    /// Whom a user does not want to hear of, at least as new as what was read of the log.
    pub(crate) async fn ignored_users(&self, user_id: &UserId) -> Result<HashSet<OwnedUserId>> {
        if let Some(known) = self.inner.push.preferences.get(user_id) {
            return Ok(known.ignored.clone());
        }
        let loaded = self.preferences(&[user_id.to_owned()]).await?;
        Ok(loaded.first().map(|preferences| preferences.ignored.clone()).unwrap_or_default())
    }

    async fn load_preferences(
        &self,
        user_ids: &[OwnedUserId],
        loaded: &mut HashMap<OwnedUserId, Arc<Preferences>>,
    ) -> Result<()> {
        let push = &self.inner.push;
        let forgotten = *push.forgotten();
        let mut contents: HashMap<OwnedUserId, (Option<PushRules>, HashSet<OwnedUserId>)> = HashMap::new();
        for (user_id, record) in self.storage().account_data_of(user_ids, &[PUSH_RULES, IGNORED_USERS]).await? {
            let rules = (record.event_type == PUSH_RULES).then(|| stored_rules(&user_id, &record.content));
            let rules = rules.map(|rules| PushRules::new(&rules, &user_id));
            let ignored = ignored_by(&user_id, &record);
            let content = contents.entry(user_id).or_default();
            match rules {
                Some(rules) => content.0 = Some(rules),
                None => content.1 = ignored,
            }
        }
        for user_id in user_ids {
            let preferences = match contents.remove(user_id) {
                None => push.unchanged.clone(),
                Some((rules, ignored)) => {
                    let rules = rules.unwrap_or_else(|| push.unchanged.rules.clone());
                    Arc::new(Preferences { rules, ignored })
                }
            };
            // If somebody's changed while these were read, they are good for this event, but not to be kept.
            let now = push.forgotten();
            if *now == forgotten {
                push.preferences.insert(user_id.clone(), preferences.clone());
            }
            drop(now);
            loaded.insert(user_id.clone(), preferences);
        }
        Ok(())
    }

    /// The display names that member events give, in lower case.
    pub(super) async fn display_names(&self, member_ids: &[OwnedEventId]) -> Result<HashMap<OwnedEventId, Arc<str>>> {
        let cache = &self.inner.push.display_names;
        let (known, missing): (Vec<_>, Vec<_>) = member_ids.iter().cloned().partition(|id| cache.contains_key(id));
        let mut names: HashMap<OwnedEventId, Arc<str>> =
            known.into_iter().filter_map(|id| Some((id.clone(), cache.get(&id)?))).collect();
        for ids in missing.chunks(LOADED_AT_ONCE) {
            for event in self.storage().events(ids).await? {
                let name = event.pdu.content_str("displayname").unwrap_or_default();
                let name: Arc<str> = lower_case(&name).into();
                cache.insert(event.pdu.event_id.clone(), name.clone());
                names.insert(event.pdu.event_id.clone(), name);
            }
        }
        Ok(names)
    }
}

/// A display name as it is looked for.
pub(super) fn lower_case(display_name: &str) -> String {
    display_name.trim().to_lowercase()
}
