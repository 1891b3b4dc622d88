//! Rooms that a user mutes until a time: account data of theirs, which becomes the push rule by which clients mute a room,
//! so that all clients are quiet, and show it. The rule is taken back when the time has come.

use ruma::{
    RoomId, UserId,
    push::{EventMatchConditionData, NewConditionalPushRule, NewPushRule, PushCondition, RuleKind, Ruleset},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::{Mute, RoomAccountData};
use tokio::sync::OwnedMutexGuard;

use crate::{Engine, EngineError, Result};

/// Of a room: until when it is muted.
pub(crate) const MUTE_UNTIL: &str = "nudge.mute_until";
/// How many mutes are ended in one go.
const BATCH: usize = 500;

#[derive(Deserialize)]
struct MuteUntil {
    until_ts: u64,
}

impl Engine {
    /// Does what a user wants of a room who has just said until when it is to be muted. What names no time to come ends
    /// what was said before.
    pub(crate) async fn mute_until(&self, user_id: &UserId, room_id: &RoomId, content: &RawValue) -> Result<()> {
        let Some(until_ts) = self.mute_end(content) else {
            return self.end_mute(user_id, room_id).await;
        };
        let _lock = self.lock_mutes(user_id).await;
        if is_muted(&self.push_rules(user_id).await?, room_id) {
            // A room that the user has muted for good stays so. It is noted all the same: who unmutes it then is not to be
            // muted again by the next start.
            let is_own = self.storage().mute(user_id, room_id).await?.is_none_or(|noted| noted.is_own);
            return Ok(self.storage().set_mute(user_id, room_id, Mute { until_ts, is_own }).await?);
        }
        // First when it ends: should the server be killed in between, there is no rule that nobody takes back.
        self.storage().set_mute(user_id, room_id, Mute { until_ts, is_own: false }).await?;
        self.change_push_rules(user_id, |rules| {
            rules.insert(rule(room_id), None, None)?;
            // Where there was one that the user has disabled, it would stay so.
            rules.set_enabled(RuleKind::Override, room_id, true).map_err(EngineError::internal)
        })
        .await
    }

    /// Does what users want who said so before the server knew of mutes, or right before it was killed. To be called at the
    /// start. Who has unmuted a room since, with a client that knows nothing of this, is not muted again: of those it is
    /// noted still when the mute ends.
    pub async fn take_up_mutes(&self) -> Result<()> {
        let mut after = (0, 0);
        loop {
            let found = self.storage().room_account_data(MUTE_UNTIL, after, BATCH).await?;
            for wish in &found {
                if let Err(error) = self.take_up_mute(wish).await {
                    tracing::warn!(user.id = %wish.user_id, %error, "a room could not be muted or unmuted");
                }
            }
            match found.last() {
                Some(last) if found.len() == BATCH => after = last.place,
                _ => return Ok(()),
            }
        }
    }

    async fn take_up_mute(&self, wish: &RoomAccountData) -> Result<()> {
        let (user_id, room_id) = (&wish.user_id, &wish.room_id);
        let noted = self.storage().mute(user_id, room_id).await?;
        let until_ts = self.mute_end(&wish.content);
        if until_ts.is_some() != noted.is_some() {
            return self.mute_until(user_id, room_id, &wish.content).await;
        }
        let _lock = self.lock_mutes(user_id).await;
        if let Some(until_ts) = until_ts
            && noted.is_some_and(|noted| noted.until_ts != until_ts)
            && let Some(Mute { is_own, .. }) = self.storage().mute(user_id, room_id).await?
        {
            self.storage().set_mute(user_id, room_id, Mute { until_ts, is_own }).await?;
        }
        Ok(())
    }

    /// Until when a room is to be muted, if that is to come.
    fn mute_end(&self, content: &RawValue) -> Option<u64> {
        let now_ms = self.world().clock.now_ms();
        let until_ts = serde_json::from_str(content.get()).ok().map(|MuteUntil { until_ts }| until_ts);
        until_ts.filter(|until_ts| *until_ts > now_ms)
    }

    /// Ends the mutes whose time has come. Returns how many.
    pub async fn end_mutes(&self) -> Result<usize> {
        let due = self.storage().due_mutes(self.world().clock.now_ms(), BATCH).await?;
        for (user_id, room_id) in &due {
            self.end_mute(user_id, room_id).await?;
        }
        Ok(due.len())
    }

    async fn end_mute(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        let _lock = self.lock_mutes(user_id).await;
        let Some(noted) = self.storage().mute(user_id, room_id).await? else { return Ok(()) };
        if !noted.is_own {
            let ended =
                self.change_push_rules(user_id, |rules| Ok(rules.remove(RuleKind::Override, room_id.as_str())?)).await;
            match ended {
                // The user was quicker.
                Err(EngineError::NotFound(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        self.storage().forget_mute(user_id, room_id).await?;
        Ok(())
    }

    /// Mutes of a user begin and end one after the other, and while none of their rules is set.
    pub(super) async fn lock_mutes(&self, user_id: &UserId) -> OwnedMutexGuard<()> {
        self.inner.push.changing.lock(&format!("mutes {user_id}")).await
    }
}

/// Whether the override by which clients mute a room applies: it is named after the room.
fn is_muted(rules: &Ruleset, room_id: &RoomId) -> bool {
    rules.override_.get(room_id.as_str()).is_some_and(|rule| rule.enabled)
}

fn rule(room_id: &RoomId) -> NewPushRule {
    let condition = EventMatchConditionData::new("room_id".to_owned(), room_id.to_string());
    NewPushRule::Override(NewConditionalPushRule::new(
        room_id.to_string(),
        vec![PushCondition::EventMatch(condition)],
        Vec::new(),
    ))
}
