//! What follows from an event for those who read: whom it notifies, and who has read.
//!
//! It becomes true in the same commit as the event, so that an answer to `/sync` which shows the event counts it too.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-13>

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{Notice, Notified, Placement, Standing},
    push::{Outcome, PushEvent, Recipient},
};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde_json::value::{RawValue, to_raw_value};

use super::{audience::Audience, preferences::Preferences};
use crate::{Engine, EngineError, Result, rooms::MAIN_THREAD};

/// After how many users others get a turn: each takes about a microsecond.
const EVALUATED_AT_ONCE: usize = 1_000;
/// The kind of notification that addresses the whole room.
const ROOM: &str = "room";

impl Engine {
    /// What follows for readers from the changes of a room, from `before` to `after`; and the room's audience as it will
    /// be, if that is known. `known` is the one before, if memory does not hold it yet.
    pub(crate) async fn for_readers(
        &self,
        before: &RoomSnapshot,
        after: &RoomSnapshot,
        changes: &[Change],
        mut known: Option<Audience>,
    ) -> Result<(Vec<Change>, Option<Audience>)> {
        let mut following = Vec::new();
        let mut audience = None;
        for change in changes {
            match change {
                Change::Event(new) if new.standing == Standing::Accepted && new.placement == Placement::Live => {
                    following.extend(self.read_by_sending(&new.pdu).await?);
                    if audience.is_none() {
                        audience = Some(self.audience(before, after, changes, known.take()).await?);
                    }
                    let audience = audience.get_or_insert_default();
                    if !is_redacted(&new.pdu, changes) {
                        following.extend(self.notification(after, &new.pdu, audience).await?);
                    }
                }
                Change::Membership { user_id, membership, .. }
                    if is_settled(membership) && before.membership(user_id) != *membership =>
                {
                    following.push(all_read(&after.room_id, user_id));
                }
                _ => {}
            }
        }
        Ok((following, audience.or_else(|| self.unchanged_audience(before, changes))))
    }

    /// Who says something has read what was said before in that thread.
    async fn read_by_sending(&self, pdu: &Arc<Pdu>) -> Result<Option<Change>> {
        let is_speech = pdu.state_key.is_none() && pdu.event_type != TimelineEventType::RoomRedaction;
        if !is_speech || !self.is_local(&pdu.sender) {
            return Ok(None);
        }
        let thread = self.thread_of(pdu).await?;
        Ok(Some(Change::Read {
            room_id: pdu.room_id.clone(),
            user_id: pdu.sender.clone(),
            thread_id: Some(thread.map_or_else(|| MAIN_THREAD.to_owned(), |root| root.to_string())),
            up_to: None,
        }))
    }

    /// Whom an event notifies, if anybody: everyone alike, but for those who are asked one by one.
    async fn notification(
        &self,
        room: &RoomSnapshot,
        pdu: &Arc<Pdu>,
        audience: &mut Audience,
    ) -> Result<Option<Change>> {
        let mut event = PushEvent::new(pdu, room.joined_count());
        let mut user_ids = self.asked(room, pdu, &event, audience).await?;
        user_ids.extend(self.invited_by(pdu).await?);
        let user_ids: Vec<OwnedUserId> = user_ids.into_iter().collect();
        let has_readers = room.residents().any(|user_id| *user_id != pdu.sender);
        if user_ids.is_empty() && !has_readers {
            return Ok(None);
        }
        let preferences = self.preferences(&user_ids).await?;
        event.permissions = self.permissions(room, pdu, &event, &preferences).await?;
        let names = self.names_to_look_for(room, &event, &user_ids, &preferences).await?;
        let mut outcomes = Outcomes::default();
        if has_readers {
            outcomes.for_everyone(self.inner.push.unchanged.rules.evaluate_unnamed(&event))?;
        }
        let readers: Vec<_> = user_ids.into_iter().zip(preferences).collect();
        for readers in readers.chunks(EVALUATED_AT_ONCE) {
            for (user_id, preferences) in readers {
                let recipient = Recipient { user_id, display_name: names.get(user_id).map(|name| &**name) };
                outcomes.add(recipient, room.is_resident(user_id), preferences, &event, pdu)?;
            }
            tokio::task::yield_now().await;
        }
        if outcomes.is_empty() {
            return Ok(None);
        }
        Ok(Some(outcomes.into_change(pdu, self.thread_of(pdu).await?, self.world().clock.now())))
    }

    /// The user of ours whom a member event invites, if they want to see that.
    async fn invited_by(&self, pdu: &Pdu) -> Result<Option<OwnedUserId>> {
        let Some((user_id, MembershipState::Invite)) = pdu.membership() else { return Ok(None) };
        if !self.is_local(&user_id) {
            return Ok(None);
        }
        let hidden = self.hidden_invitations(&user_id, std::slice::from_ref(&pdu.sender)).await?;
        Ok((hidden == 0).then_some(user_id))
    }

    /// The invitation to a room that this server is not in, as far as it notifies the invited user.
    pub(crate) async fn invitation(&self, pdu: &Pdu) -> Result<Option<Change>> {
        let Some(user_id) = self.invited_by(pdu).await? else { return Ok(None) };
        let preferences = self.preferences(std::slice::from_ref(&user_id)).await?;
        let mut outcomes = Outcomes::default();
        for preferences in &preferences {
            let recipient = Recipient { user_id: &user_id, display_name: None };
            outcomes.add(recipient, false, preferences, &PushEvent::new(pdu, 0), pdu)?;
        }
        if outcomes.is_empty() {
            return Ok(None);
        }
        Ok(Some(outcomes.into_change(pdu, None, self.world().clock.now())))
    }

    /// What the sender has the power for, of all that anybody asks.
    async fn permissions(
        &self,
        room: &RoomSnapshot,
        pdu: &Pdu,
        event: &PushEvent,
        preferences: &[Arc<Preferences>],
    ) -> Result<BTreeSet<String>> {
        let mut asked: BTreeSet<&str> =
            preferences.iter().flat_map(|preferences| preferences.rules.permissions()).map(String::as_str).collect();
        if event.speaks_to_room() {
            asked.insert(ROOM);
        }
        if asked.is_empty() {
            return Ok(BTreeSet::new());
        }
        let levels = self.power_levels(room).await?;
        Ok(asked.into_iter().filter(|key| levels.may_notify(&pdu.sender, key)).map(ToOwned::to_owned).collect())
    }

    /// The display names of those whose rules look for them.
    async fn names_to_look_for(
        &self,
        room: &RoomSnapshot,
        event: &PushEvent,
        user_ids: &[OwnedUserId],
        preferences: &[Arc<Preferences>],
    ) -> Result<HashMap<OwnedUserId, Arc<str>>> {
        let wanting = user_ids.iter().zip(preferences).filter(|(_, it)| it.rules.wants_display_name(event));
        let member = |user_id: &UserId| room.state_event_id(&StateEventType::RoomMember, user_id.as_str());
        let wanting: Vec<(&OwnedUserId, OwnedEventId)> =
            wanting.filter_map(|(user_id, _)| Some((user_id, member(user_id)?.to_owned()))).collect();
        let ids: Vec<OwnedEventId> = wanting.iter().map(|(_, event_id)| event_id.clone()).collect();
        let names = self.display_names(&ids).await?;
        Ok(wanting.into_iter().filter_map(|(user_id, id)| Some((user_id.clone(), names.get(&id)?.clone()))).collect())
    }
}

/// Whether nothing is left to be answered.
fn is_settled(membership: &MembershipState) -> bool {
    !matches!(membership, MembershipState::Invite | MembershipState::Knock)
}

/// What came before a user came or went is no news.
pub(crate) fn all_read(room_id: &RoomId, user_id: &UserId) -> Change {
    Change::Read { room_id: room_id.to_owned(), user_id: user_id.to_owned(), thread_id: None, up_to: None }
}

/// What an event comes to for all whom it notifies.
#[derive(Default)]
struct Outcomes {
    actions: Vec<Box<RawValue>>,
    /// For members whom nothing sets apart.
    everyone: Option<Notice>,
    /// For those for whom it comes to something else.
    notified: Vec<Notified>,
    /// Where the actions of rules that were met before stand.
    known: HashMap<usize, usize>,
}

impl Outcomes {
    fn for_everyone(&mut self, outcome: Option<&Arc<Outcome>>) -> Result<()> {
        self.everyone = self.notice(outcome)?;
        Ok(())
    }

    /// What holds for everyone holds for members only.
    fn add(
        &mut self,
        recipient: Recipient<'_>,
        is_member: bool,
        preferences: &Preferences,
        event: &PushEvent,
        pdu: &Pdu,
    ) -> Result<()> {
        let is_ignored = pdu.state_key.is_none() && preferences.ignored.contains(&pdu.sender);
        let outcome = if is_ignored { None } else { preferences.rules.evaluate(event, recipient) };
        let notice = self.notice(outcome)?;
        if notice != self.everyone.filter(|_| is_member) {
            self.notified.push(Notified { user_id: recipient.user_id.to_owned(), notice });
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.everyone.is_none() && self.notified.is_empty()
    }

    fn notice(&mut self, outcome: Option<&Arc<Outcome>>) -> Result<Option<Notice>> {
        let Some(outcome) = outcome else { return Ok(None) };
        Ok(Some(Notice { highlight: outcome.highlight, actions: self.actions_of(outcome)? }))
    }

    /// The index of the same actions; most users share their rules, and with them the place in memory.
    fn actions_of(&mut self, outcome: &Arc<Outcome>) -> Result<usize> {
        let place = Arc::as_ptr(outcome).addr();
        if let Some(index) = self.known.get(&place) {
            return Ok(*index);
        }
        let actions = to_raw_value(&outcome.actions).map_err(EngineError::internal)?;
        let same = self.actions.iter().position(|known| known.get() == actions.get());
        let index = same.unwrap_or_else(|| {
            self.actions.push(actions);
            self.actions.len() - 1
        });
        self.known.insert(place, index);
        Ok(index)
    }

    fn into_change(self, pdu: &Pdu, thread_root: Option<OwnedEventId>, ts: ruma::MilliSecondsSinceUnixEpoch) -> Change {
        Change::Notification {
            room_id: pdu.room_id.clone(),
            event_id: pdu.event_id.clone(),
            sender: pdu.sender.clone(),
            thread_root,
            ts,
            is_call: pdu.event_type == TimelineEventType::CallInvite,
            actions: self.actions,
            everyone: self.everyone,
            notified: self.notified,
        }
    }
}

/// Whether an event comes in redacted: then there is nothing to tell of it.
fn is_redacted(pdu: &Pdu, changes: &[Change]) -> bool {
    let redacted = |change: &Change| matches!(change, Change::Redaction { event_id, .. } if *event_id == pdu.event_id);
    changes.iter().any(redacted)
}
