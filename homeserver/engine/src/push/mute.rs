//! Rooms that a user mutes until a time: account data of theirs, which becomes the push rule by which clients mute a room,
//! so that all clients are quiet, and show it. The rule is taken back when the time has come.

use ruma::{
    RoomId, UserId,
    push::{EventMatchConditionData, NewConditionalPushRule, NewPushRule, PushCondition, RuleKind, Ruleset},
};
use serde::Deserialize;
use serde_json::value::RawValue;

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
        let now_ms = self.world().clock.now_ms();
        let until_ts = serde_json::from_str(content.get()).ok().map(|MuteUntil { until_ts }| until_ts);
        let Some(until_ts) = until_ts.filter(|until_ts| *until_ts > now_ms) else {
            return self.end_mute(user_id, room_id).await;
        };
        let _lock = self.inner.push.changing.lock(&format!("mutes {user_id}")).await;
        if is_muted(&self.push_rules(user_id).await?, room_id) {
            // A room that the user has muted for good stays so.
            if self.storage().mute(user_id, room_id).await?.is_some() {
                self.storage().set_mute(user_id, room_id, until_ts).await?;
            }
            return Ok(());
        }
        // First when it ends: should the server be killed in between, there is no rule that nobody takes back.
        self.storage().set_mute(user_id, room_id, until_ts).await?;
        self.change_push_rules(user_id, |rules| Ok(rules.insert(rule(room_id), None, None)?)).await
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
        let _lock = self.inner.push.changing.lock(&format!("mutes {user_id}")).await;
        if self.storage().mute(user_id, room_id).await?.is_none() {
            return Ok(());
        }
        if is_muted(&self.push_rules(user_id).await?, room_id) {
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

    /// A rule that the user sets is theirs from now on, and not taken back.
    pub(super) async fn keep_rule(&self, user_id: &UserId, rule_id: &str) -> Result<()> {
        if let Ok(room_id) = RoomId::parse(rule_id) {
            self.storage().forget_mute(user_id, &room_id).await?;
        }
        Ok(())
    }
}

/// Whether there is the override by which clients mute a room: it is named after the room.
fn is_muted(rules: &Ruleset, room_id: &RoomId) -> bool {
    rules.override_.get(room_id.as_str()).is_some()
}

fn rule(room_id: &RoomId) -> NewPushRule {
    let condition = EventMatchConditionData::new("room_id".to_owned(), room_id.to_string());
    NewPushRule::Override(NewConditionalPushRule::new(
        room_id.to_string(),
        vec![PushCondition::EventMatch(condition)],
        Vec::new(),
    ))
}
