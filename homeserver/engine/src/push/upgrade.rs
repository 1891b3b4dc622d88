//! The rules that a user has for a room go along when the room is replaced by another.

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{Placement, Standing},
};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
    push::{PushCondition, Ruleset},
};
use serde::Deserialize;

use super::rules::{PUSH_RULES, stored_rules};
use crate::{Engine, Result};

/// The content of a create event, as far as it names the room before.
#[derive(Deserialize)]
struct Create {
    predecessor: Predecessor,
}

#[derive(Deserialize)]
struct Predecessor {
    room_id: OwnedRoomId,
}

/// What the changes of a room may mean for the rules of our users.
pub(crate) struct Movers {
    room_id: OwnedRoomId,
    user_ids: Vec<OwnedUserId>,
}

impl Engine {
    /// Who goes over to another room by these changes: who joins this one, or is in the one that replaces it.
    pub(crate) async fn movers(
        &self,
        before: &RoomSnapshot,
        after: &RoomSnapshot,
        changes: &[Change],
    ) -> Option<Movers> {
        let joining = changes.iter().filter_map(|change| match change {
            Change::Membership { user_id, membership: MembershipState::Join, .. } => Some(user_id.clone()),
            _ => None,
        });
        let joining: Vec<_> = joining.filter(|user_id| before.membership(user_id) != MembershipState::Join).collect();
        if !joining.is_empty() {
            return Some(Movers { room_id: after.room_id.clone(), user_ids: joining });
        }
        let tombstone = changes.iter().find_map(|change| match change {
            Change::Event(new) if new.standing == Standing::Accepted && new.placement == Placement::Live => {
                new.pdu.is_state(&TimelineEventType::RoomTombstone).then_some(&new.pdu)
            }
            _ => None,
        })?;
        let replacement = self.room(&replacement(tombstone)?).await.ok()??;
        let is_there = |user_id: &&OwnedUserId| replacement.membership(user_id) == MembershipState::Join;
        let user_ids = after.residents().filter(is_there).cloned().collect();
        Some(Movers { room_id: replacement.room_id.clone(), user_ids })
    }

    /// Gives users the rules for a room that they had for the room which it replaces.
    pub(crate) async fn carry_rules_over(&self, movers: Movers) {
        let Movers { room_id, user_ids } = movers;
        if let Err(error) = self.try_to_carry_over(&room_id, &user_ids).await {
            tracing::error!(room.id = %room_id, %error, "push rules of the room before do not apply to this one");
        }
    }

    async fn try_to_carry_over(&self, room_id: &RoomId, user_ids: &[OwnedUserId]) -> Result<()> {
        let Some(predecessor) = self.replaced_room(room_id).await? else { return Ok(()) };
        for (user_id, record) in self.storage().account_data_of(user_ids, &[PUSH_RULES]).await? {
            if stored_rules(&user_id, &record.content).room.get(predecessor.as_str()).is_some() {
                self.copy_rule(&user_id, &predecessor, room_id).await?;
            }
        }
        Ok(())
    }

    /// The room that a room replaces: they name each other. What only one of them says, anybody could say.
    async fn replaced_room(&self, room_id: &RoomId) -> Result<Option<OwnedRoomId>> {
        let Some(room) = self.room(room_id).await? else { return Ok(None) };
        let create = self.state_pdu(&room, &StateEventType::RoomCreate, "").await?;
        let Some(Create { predecessor }) = create.and_then(|create| create.content_as()) else { return Ok(None) };
        let Some(old) = self.room(&predecessor.room_id).await? else { return Ok(None) };
        let tombstone = self.state_pdu(&old, &StateEventType::RoomTombstone, "").await?;
        let points_here = tombstone.and_then(|tombstone| replacement(&tombstone)).is_some_and(|it| it == room_id);
        Ok(points_here.then_some(predecessor.room_id))
    }

    /// Copies the override by which a user's clients mute a room: it is named after the room.
    pub(crate) async fn carry_override_over(&self, user_id: &UserId, from: &RoomId, to: &RoomId) -> Result<()> {
        if !may_carry_override(&self.push_rules(user_id).await?, from, to) {
            return Ok(());
        }
        // What ends with the time ends for the new room as well.
        if let Some(mute) = self.storage().mute(user_id, from).await? {
            self.storage().set_mute(user_id, to, mute).await?;
        }
        self.change_push_rules(user_id, |rules| {
            carry_override(rules, from, to);
            Ok(())
        })
        .await
    }

    async fn copy_rule(&self, user_id: &UserId, from: &RoomId, to: &RoomId) -> Result<()> {
        self.change_push_rules(user_id, |rules| {
            if let (Some(rule), None) = (rules.room.get(from.as_str()), rules.room.get(to.as_str())) {
                let mut rule = rule.clone();
                rule.rule_id = to.to_owned();
                rules.room.insert(rule);
            }
            Ok(())
        })
        .await
    }
}

fn may_carry_override(rules: &Ruleset, from: &RoomId, to: &RoomId) -> bool {
    rules.override_.get(from.as_str()).is_some() && rules.override_.get(to.as_str()).is_none()
}

/// The copy stands behind the rule that it is made of.
fn carry_override(rules: &mut Ruleset, from: &RoomId, to: &RoomId) {
    if !may_carry_override(rules, from, to) {
        return;
    }
    let Some((place, rule)) = rules.override_.get_full(from.as_str()) else { return };
    let mut rule = rule.clone();
    to.as_str().clone_into(&mut rule.rule_id);
    for condition in &mut rule.conditions {
        if let PushCondition::EventMatch(matched) = condition
            && matched.key == "room_id"
            && matched.pattern == from.as_str()
        {
            to.as_str().clone_into(&mut matched.pattern);
        }
    }
    rules.override_.shift_insert(place + 1, rule);
}

/// The room that a tombstone points to.
fn replacement(tombstone: &Pdu) -> Option<OwnedRoomId> {
    tombstone.content_str("replacement_room")?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_muted_room_stays_muted() {
        let mute = |room: &str| json!({"rule_id": room, "actions": [], "default": false, "enabled": true, "conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}]});
        let mut rules: Ruleset = serde_json::from_value(json!({"override": [mute("!old:a"), mute("!x:a")]})).unwrap();
        for _ in 0..2 {
            carry_override(&mut rules, room_id!("!old:a"), room_id!("!new:a"));
            let overrides = serde_json::to_value(&rules.override_).unwrap();
            assert_eq!(overrides, json!([mute("!old:a"), mute("!new:a"), mute("!x:a")]));
        }
    }
}
