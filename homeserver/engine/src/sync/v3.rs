//! What changed, as the answer to `GET /_matrix/client/v3/sync`.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync>.

pub(super) mod account_data;
mod devices;
mod invited;
mod joined;
mod left;
mod presence;

pub(crate) use self::presence::presence_event;
use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use rules::{Pdu, change::Position};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId,
    api::client::sync::sync_events::v3::{InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Response, State},
    events::room::member::MembershipState,
};
use storage::{MembershipRecord, ReceiptRecord, StoredEvent};

use super::{
    SyncAnswer, SyncQuery,
    changes::{RoomChanges, Selection},
    event_fields::EventFields,
    filter::{allows, allows_room_type, covers_room, lazy_loads, selects_room},
    state::Base,
    token::SyncToken,
};
use crate::{ClientEvent, Engine, EngineError, Requester, Result};

/// How many rooms of one answer are worked on at the same time: as many as the database has readers, usually.
const ROOMS_AT_ONCE: usize = 4;
/// For how many rooms of one answer what can be read together is read together. It waits in memory until each has its turn.
const ROOMS_TOGETHER: usize = 50;

/// What all rooms of one answer have in common.
struct Asked<'a> {
    requester: &'a Requester,
    query: &'a SyncQuery,
    /// Up to where the answer goes.
    now: Position,
    /// Up to where the client was told everything, if it was told anything.
    since: Option<Position>,
    /// Whose events the user does not want to see.
    ignored: HashSet<OwnedUserId>,
    /// Which fields of events the client wants, if not all.
    fields: Option<EventFields>,
}

/// What an answer tells of one room. Who left and was invited again is told of both.
#[derive(Default)]
struct Room {
    joined: Option<JoinedRoom>,
    invited: Option<InvitedRoom>,
    knocked: Option<KnockedRoom>,
    left: Option<LeftRoom>,
    /// What is sticky there, and not in the timeline.
    sticky: Vec<ClientEvent>,
}

impl Engine {
    /// The answer for what happened after `since`.
    pub(super) async fn v3_response(
        &self,
        requester: &Requester,
        query: &SyncQuery,
        since: Option<SyncToken>,
    ) -> Result<SyncAnswer> {
        let filter = &query.filter.room;
        let selection = Selection {
            room: &|room_id| selects_room(filter, room_id),
            left: filter.include_leave,
            unchanged: query.full_state,
        };
        let changes = self.changes(&requester.user_id, since, &selection).await?;
        let mut response = self.v3_devices(requester, since, changes.now).await?;
        response.account_data = account_data::global(&changes.account_data, &query.filter.account_data)?;
        response.presence = self.v3_presence(requester, &query.filter.presence, &changes)?;
        let asked = Asked {
            requester,
            query,
            now: changes.now.position,
            since: since.map(|since| since.position),
            ignored: changes.ignored,
            fields: EventFields::of(query.filter.event_fields.as_deref()),
        };
        let mut answer = SyncAnswer { response, sticky: BTreeMap::new() };
        let mut rooms = changes.rooms;
        while !rooms.is_empty() {
            let later = rooms.split_off(rooms.len().min(ROOMS_TOGETHER));
            self.v3_rooms(&asked, std::mem::replace(&mut rooms, later), &mut answer).await?;
        }
        Ok(answer)
    }

    /// Adds some rooms to an answer.
    async fn v3_rooms(&self, asked: &Asked<'_>, rooms: Vec<RoomChanges>, answer: &mut SyncAnswer) -> Result<()> {
        let mut receipts = self.v3_receipts(asked, &rooms).await?;
        let rooms = stream::iter(rooms).map(|changes| {
            let receipts = receipts.remove(&changes.record.room_id).unwrap_or_default();
            self.v3_room(asked, changes, receipts)
        });
        let mut rooms = rooms.buffered(ROOMS_AT_ONCE);
        while let Some((room_id, room)) = rooms.try_next().await? {
            if !room.sticky.is_empty() {
                let sticky = room.sticky.into_iter().map(ClientEvent::into_raw).collect();
                answer.sticky.insert(room_id.clone(), sticky);
            }
            let told = &mut answer.response.rooms;
            told.join.extend(room.joined.map(|room| (room_id.clone(), room)));
            told.invite.extend(room.invited.map(|room| (room_id.clone(), room)));
            told.knock.extend(room.knocked.map(|room| (room_id.clone(), room)));
            told.leave.extend(room.left.map(|room| (room_id, room)));
        }
        Ok(())
    }

    /// The receipts to be told, by room, read at once for all rooms of which the client knows as much.
    async fn v3_receipts(
        &self,
        asked: &Asked<'_>,
        rooms: &[RoomChanges],
    ) -> Result<HashMap<OwnedRoomId, Vec<ReceiptRecord>>> {
        let filter = &asked.query.filter.room.ephemeral;
        let mut wanted: BTreeMap<Position, Vec<&RoomId>> = BTreeMap::new();
        if allows_room_type(filter, "m.receipt") {
            let joined = rooms.iter().filter(|room| room.record.membership == MembershipState::Join);
            for room in joined.filter(|room| room.parts.receipts && covers_room(filter, &room.record.room_id)) {
                let since = if let Base::Known(since) = room.base { since } else { 0 };
                wanted.entry(since).or_default().push(&room.record.room_id);
            }
        }
        let mut receipts: HashMap<OwnedRoomId, Vec<ReceiptRecord>> = HashMap::new();
        for (since, room_ids) in wanted.into_iter().filter(|(since, _)| *since < asked.now) {
            for record in self.storage().receipts_in(room_ids, since, asked.now).await? {
                receipts.entry(record.room_id.clone()).or_default().push(record);
            }
        }
        Ok(receipts)
    }

    async fn v3_room(
        &self,
        asked: &Asked<'_>,
        mut changes: RoomChanges,
        mut receipts: Vec<ReceiptRecord>,
    ) -> Result<(OwnedRoomId, Room)> {
        let mut room = Room::default();
        let base = changes.base;
        let shows_members = self.show_members(asked, &mut changes).await?;
        if changes.base != base {
            // As of a new room, there is more to be told of it than was read.
            let mut more = self.v3_receipts(asked, std::slice::from_ref(&changes)).await?;
            receipts = more.remove(&changes.record.room_id).unwrap_or_default();
            changes.account_data =
                self.room_account_data(&asked.requester.user_id, &changes.record.room_id, asked.now).await?;
        }
        match changes.record.membership {
            MembershipState::Join => {
                if !shows_members {
                    return Ok((changes.record.room_id, room));
                }
                (room.joined, room.sticky) = self.v3_joined(asked, &changes, receipts).await?;
                return Ok((changes.record.room_id, room));
            }
            MembershipState::Invite => room.invited = self.v3_invited(asked, &changes.record).await?,
            MembershipState::Knock => room.knocked = Some(self.v3_knocked(&changes.record).await?),
            _ => room.left = Some(self.v3_left(asked, &changes).await?),
        }
        if room.left.is_none() && changes.left_at.is_some() && asked.since.is_some() {
            room.left = Some(self.v3_left(asked, &changes).await?);
        }
        Ok((changes.record.room_id, room))
    }

    /// A client that does not load members lazily relies on all of them: it is not told of a room before they are known,
    /// and from then on, or when its user has left, as of a new one. Whether all are known that it relies on.
    async fn show_members(&self, asked: &Asked<'_>, changes: &mut RoomChanges) -> Result<bool> {
        let is_joined = changes.record.membership == MembershipState::Join;
        if lazy_loads(&asked.query.filter.room.state) || (!is_joined && asked.since.is_none()) {
            return Ok(true);
        }
        let known = self.members_known(&changes.record.room_id).await?;
        if !known.all || asked.since.is_some_and(|since| known.became_known_after(since)) {
            if changes.base == Base::Nothing && known.all && self.is_undone(&changes.record).await? {
                // As we know now, they had left by then.
                changes.left_at = changes.left_at.or(changes.told);
            }
            (changes.base, changes.told) = (Base::Nothing, None);
        }
        Ok(known.all)
    }

    /// Whether somebody is out of a room because what they came by was refused after all.
    async fn is_undone(&self, record: &MembershipRecord) -> Result<bool> {
        let event = self.stored_event(&record.event_id).await?;
        let came = event.and_then(|event| event.pdu.membership()).map(|(_, membership)| membership);
        Ok(came.is_some_and(|came| came != record.membership))
    }

    /// State events, under the name that the client asked for.
    async fn v3_state(&self, asked: &Asked<'_>, events: &[std::sync::Arc<StoredEvent>]) -> Result<State> {
        let events = self.client_state(events, false).await?;
        let events: Vec<_> = asked.cut(events)?.into_iter().map(ClientEvent::into_raw).collect();
        Ok(if asked.query.use_state_after { State::After(events.into()) } else { State::Before(events.into()) })
    }
}

impl Asked<'_> {
    /// What is worked from: nothing at all when the client wants the full state.
    fn base(&self, changes: &RoomChanges) -> Base {
        if self.query.full_state { Base::Nothing } else { changes.base }
    }

    /// Whether the client wants an event in the timeline of a room.
    fn wants(&self, room_id: &RoomId, pdu: &Pdu) -> bool {
        let filter = &self.query.filter.room.timeline;
        let is_ignored = pdu.state_key.is_none() && self.ignored.contains(&pdu.sender);
        !is_ignored && covers_room(filter, room_id) && allows(filter, pdu) && self.query.relations.allows(pdu)
    }

    /// Events with the fields that the client wants.
    fn cut(&self, events: Vec<ClientEvent>) -> Result<Vec<ClientEvent>> {
        match &self.fields {
            None => Ok(events),
            Some(fields) => events.iter().map(|event| fields.apply(event)).collect(),
        }
    }
}

/// Whether an answer tells nothing.
pub(super) fn is_empty(response: &Response) -> bool {
    response.rooms.is_empty()
        && response.account_data.is_empty()
        && response.to_device.is_empty()
        && response.device_lists.is_empty()
        && response.presence.is_empty()
}

/// JSON of ours as the type that a response wants.
fn raw<T>(value: &impl serde::Serialize) -> Result<ruma::serde::Raw<T>> {
    let json = serde_json::value::to_raw_value(value).map_err(EngineError::internal)?;
    Ok(ruma::serde::Raw::from_json(json))
}
