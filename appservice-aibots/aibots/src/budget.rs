//! What bots may cost: tokens a day, for a room, a user and all together.
//!
//! What was spent is kept by the store, as sums for each day; this is the arithmetic on them. While an answer is on its
//! way, what it will probably cost is held, so that many requests at once do not all see the same free budget.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::counter;
use serde::Deserialize;

use crate::provider::Usage;

const DAY_MS: u64 = 86_400_000;

/// Tokens that may be used in a day (of UTC), questions and answers together. What is not set has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DailyTokens {
    /// In one room, whoever asks.
    pub room: Option<u64>,
    /// By one user, in whatever room.
    pub user: Option<u64>,
    /// In all.
    pub total: Option<u64>,
}

/// What the store has counted for a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the room.
    pub room: u64,
    /// By the user.
    pub user: u64,
    /// In all.
    pub total: u64,
}

/// What the store is to add to its sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Days since the beginning of 1970.
    pub day: u64,
    /// Where.
    pub room_id: String,
    /// Who asked.
    pub user_id: String,
    /// How many tokens.
    pub usage: Usage,
}

/// Whose budget has not enough left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Exhausted {
    /// The room's.
    #[error("the room has used its tokens of today")]
    Room,
    /// The user's.
    #[error("the user has used their tokens of today")]
    User,
    /// That of all.
    #[error("all tokens of today are used")]
    Total,
}

/// The budgets, and what is held for answers on their way. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    limits: DailyTokens,
    held: Arc<Mutex<BTreeMap<Account, u64>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Room(String),
    User(String),
    Total,
}

/// Tokens held for an answer. Dropping it gives them back; [`Held::settle`] says what it has really cost.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    room_id: String,
    user_id: String,
    tokens: u64,
}

/// The day of a moment, as [`Charge::day`] counts it.
pub fn day_of(now_ms: u64) -> u64 {
    now_ms / DAY_MS
}

impl Budget {
    /// Budgets of this size.
    pub fn new(limits: DailyTokens) -> Self {
        Self { limits, held: Arc::default() }
    }

    /// Holds `tokens`, which is what the answer will cost at most, if they fit beside what was spent today.
    pub fn hold(&self, room_id: &str, user_id: &str, tokens: u64, spent: Spent) -> Result<Held, Exhausted> {
        let accounts = [
            (Account::Room(room_id.to_owned()), self.limits.room, spent.room, Exhausted::Room),
            (Account::User(user_id.to_owned()), self.limits.user, spent.user, Exhausted::User),
            (Account::Total, self.limits.total, spent.total, Exhausted::Total),
        ];
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for (account, limit, spent, exhausted) in &accounts {
            let taken = spent.saturating_add(held.get(account).copied().unwrap_or(0)).saturating_add(tokens);
            if limit.is_some_and(|limit| taken > limit) {
                counter!("aibots_budget_refusals_total", "budget" => exhausted.label()).increment(1);
                return Err(*exhausted);
            }
        }
        for (account, ..) in accounts {
            let sum = held.entry(account).or_default();
            *sum = sum.saturating_add(tokens);
        }
        drop(held);
        Ok(Held { budget: self.clone(), room_id: room_id.to_owned(), user_id: user_id.to_owned(), tokens })
    }
}

impl Held {
    /// What the store is to add, now that it is known. The store adds it before this returns to the budget, so hold on to
    /// it until then.
    pub fn settle(&self, usage: Usage, now_ms: u64) -> Charge {
        counter!("aibots_budget_tokens_total").increment(usage.total());
        Charge { day: day_of(now_ms), room_id: self.room_id.clone(), user_id: self.user_id.clone(), usage }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = [
            Account::Room(std::mem::take(&mut self.room_id)),
            Account::User(std::mem::take(&mut self.user_id)),
            Account::Total,
        ];
        for account in accounts {
            if let Some(sum) = held.get_mut(&account) {
                *sum = sum.saturating_sub(self.tokens);
                if *sum == 0 {
                    held.remove(&account);
                }
            }
        }
    }
}

impl Exhausted {
    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::User => "user",
            Self::Total => "total",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, DailyTokens, Exhausted, Spent, day_of};
    use crate::provider::Usage;

    const LIMITS: DailyTokens = DailyTokens { room: Some(1_000), user: Some(600), total: Some(1_500) };

    #[test]
    fn each_budget_has_its_end() {
        let budget = Budget::new(LIMITS);
        let spent = |room, user, total| Spent { room, user, total };
        let hold = |spent| budget.hold("!r", "@u", 100, spent).map(drop);
        assert_eq!(hold(spent(900, 500, 1_400)), Ok(()));
        assert_eq!(hold(spent(901, 0, 0)), Err(Exhausted::Room));
        assert_eq!(hold(spent(0, 501, 0)), Err(Exhausted::User));
        assert_eq!(hold(spent(0, 0, 1_401)), Err(Exhausted::Total));
        assert_eq!(hold(spent(u64::MAX, 0, 0)), Err(Exhausted::Room));
        let unbounded = Budget::new(DailyTokens::default());
        assert!(unbounded.hold("!r", "@u", u64::MAX, spent(u64::MAX, 0, 0)).is_ok());
    }

    #[test]
    fn many_at_once_do_not_spend_the_same_tokens() {
        let budget = Budget::new(LIMITS);
        let first = budget.hold("!r", "@u", 400, Spent::default()).unwrap();
        assert_eq!(budget.hold("!r", "@u", 400, Spent::default()).unwrap_err(), Exhausted::User);
        let other = budget.hold("!r", "@v", 600, Spent::default()).unwrap();
        assert_eq!(budget.hold("!r", "@w", 1, Spent::default()).unwrap_err(), Exhausted::Room);
        assert_eq!(budget.hold("!s", "@w", 501, Spent::default()).unwrap_err(), Exhausted::Total);
        let charge = first.settle(Usage { input_tokens: 30, output_tokens: 12 }, 86_400_000 * 3 + 5);
        assert_eq!((charge.day, charge.usage.total(), charge.user_id.as_str()), (day_of(86_400_000 * 3), 42, "@u"));
        drop((first, other));
        assert!(budget.held.lock().unwrap().is_empty(), "nothing is held for ever");
        assert!(budget.hold("!r", "@u", 600, Spent { room: 42, ..Spent::default() }).is_ok());
    }
}
