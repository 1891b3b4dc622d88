//! What one submission writes, once it is known to succeed: each change gets its position and becomes rows.

use std::sync::Arc;

use rules::{
    change::{Change, NewEvent, Placement, Position, Standing, StateEntry, StateReference},
    event::{relation::ANNOTATION, search},
};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId,
    events::{receipt::ReceiptType, room::member::MembershipState},
};

use crate::{
    LogEntry, LogKind, StoredEvent,
    commit::{
        Committed, Submission,
        batch::{Batch, client_transaction},
        facts::{ACCEPTED, Known, OUTLIER, Room, standing_code},
        historic_state::HistoricState,
        keys::KeyWrites,
        write::{EventRow, LogRow, RedactionRow, ServerRow, StateRow, Upgrade},
    },
    dialect::{is_storable, without_nul},
    insert::{Value, row},
    notifications::{MAIN_THREAD, RecentRead, UnreadChange},
    search::field_code,
    state::BEGINNING,
};

/// In place of the index of actions: this user is not notified of what notifies everyone.
const NOT_NOTIFIED: i64 = -1;

/// One submission as it is applied to its batch.
pub(super) struct Applying<'a> {
    batch: &'a mut Batch,
    /// The last position that was given.
    last: Option<Position>,
    /// The live events so far.
    live: Vec<(OwnedEventId, Position)>,
    /// The last backfilled event, with its order and the membership that it gives.
    backfilled: Option<(OwnedEventId, i64, Option<MembershipState>)>,
}

impl<'a> Applying<'a> {
    pub(super) fn new(batch: &'a mut Batch) -> Self {
        Self { batch, last: None, live: Vec::new(), backfilled: None }
    }

    pub(super) fn apply(mut self, submission: &Submission) -> Committed {
        for change in &submission.changes {
            self.change(change);
        }
        let withdraws = |change: &Change| matches!(change, Change::Redaction { .. } | Change::Rejudged { .. });
        if submission.changes.iter().any(withdraws) {
            // Nobody is notified any more of what was redacted, or refused after all.
            self.count_anew(None, submission.room.as_ref().map(|guard| &guard.room_id));
        }
        let revision = submission.room.as_ref().map(|guard| {
            let nid = self.batch.name(guard.room_id.as_str());
            self.batch.facts.rooms.get_mut(&nid).map_or(0, |room| {
                (room.revision, room.changed) = (guard.revision + 1, true);
                room.revision
            })
        });
        let position = self.last.unwrap_or(self.batch.facts.head.position);
        Committed { position, revision, positions: self.live }
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Room { room_id, version } => {
                let nid = self.batch.name(room_id.as_str());
                self.batch.facts.rooms.entry(nid).or_insert_with(|| Room::new(version.to_string()));
            }
            Change::Event(new) => self.event(new),
            Change::State { room_id, entries } => self.state(room_id, entries),
            Change::InitialState { room_id, entries } => {
                let room_nid = self.batch.name(room_id.as_str());
                self.batch.writes.entered.insert(room_nid);
                for entry in entries {
                    let row = self.state_row(room_id.as_str(), entry, BEGINNING);
                    self.batch.writes.state.begin(row);
                }
            }
            Change::PartialState { .. } => self.partial_state(change),
            Change::CompleteState(complete) => self.complete_state(complete),
            Change::Rejudged { .. } => self.rejudged(change),
            Change::EnteredWhole { room_id } => self.entered_whole(room_id),
            Change::ForwardExtremities { room_id, event_ids } => self.forward_extremities(room_id.as_str(), event_ids),
            Change::HistoricState { .. } => self.historic_state(change),
            Change::RoomServer { room_id, server, present } => {
                let (room_nid, server_nid) = (self.batch.name(room_id.as_str()), self.batch.name(server.as_str()));
                let position = self.state_position();
                self.batch.writes.servers.push(ServerRow { room_nid, server_nid, position, present: *present });
            }
            Change::Recipient { server } => {
                let (server_nid, position) = (self.batch.name(server.as_str()), self.state_position());
                self.batch.writes.recipients.push(row![server_nid, position]);
            }
            Change::Redaction { event_id, redacted_by, json } => {
                let (event_id, redacted_by) = (event_id.clone(), redacted_by.clone());
                self.batch.writes.altered.push(event_id.clone());
                self.batch.writes.redactions.push(RedactionRow { event_id, redacted_by, json: json.clone() });
            }
            Change::AwaitedRedaction { event_id, redacted_by } => {
                self.batch.writes.awaited_redactions.push(row![event_id.as_str(), redacted_by.as_str()]);
            }
            Change::Sticky { room_id, event_id, until_ms } => {
                let room_nid = self.batch.name(room_id.as_str());
                let live = self.live.iter().find(|(live_id, _)| live_id == event_id);
                if let Some((_, position)) = live {
                    self.batch.writes.sticky.push(row![*position, room_nid, event_id.as_str(), *until_ms as i64]);
                    self.batch.writes.sticky_rooms.push((room_id.clone(), event_id.clone(), *until_ms));
                }
            }
            Change::Resend { event_id, servers } => self.resend(event_id, servers),
            Change::Membership { .. } => self.membership(change),
            Change::Receipt { .. } => self.receipt(change),
            Change::Notification { .. } => self.notification(change),
            Change::Read { .. } => self.read(change),
            Change::AccountData { .. } => self.account_data(change),
            Change::ThreadSubscription { .. } => self.thread_subscription(change),
            Change::TransactionId { event_id, ts, .. } => self.transaction(change, event_id, *ts),
            Change::DeviceKeys { .. }
            | Change::LogOut { .. }
            | Change::CrossSigningKey { .. }
            | Change::KeySignature { .. }
            | Change::DeviceList { .. }
            | Change::ToDevice { .. }
            | Change::ToDeviceId { .. }
            | Change::Edu { .. } => self.keys(change),
        }
    }

    /// The number of a name.
    pub(super) fn name(&mut self, name: &str) -> i64 {
        self.batch.name(name)
    }

    pub(super) fn key_writes(&mut self) -> &mut KeyWrites {
        &mut self.batch.writes.keys
    }

    pub(super) fn batch(&mut self) -> &mut Batch {
        self.batch
    }

    pub(super) fn recipients(&mut self) -> &mut Vec<Vec<Value>> {
        &mut self.batch.writes.recipients
    }

    pub(super) fn next_position(&mut self) -> Position {
        self.batch.facts.head.position += 1;
        self.last = Some(self.batch.facts.head.position);
        self.batch.facts.head.position
    }

    fn resend(&mut self, event_id: &OwnedEventId, servers: &[OwnedServerName]) {
        let position = self.next_position();
        for server in servers {
            let server_nid = self.batch.name(server.as_str());
            self.batch.writes.recipients.push(row![server_nid, position]);
        }
        self.log(LogEntry {
            position,
            kind: LogKind::Resend,
            // Of no room, for nobody who is there is concerned.
            room_id: None,
            user_id: None,
            event_id: Some(event_id.clone()),
            outbound: true,
            membership: None,
        });
    }

    /// From when on the state changes: the live event before it in the list, or the end of the log.
    pub(super) fn state_position(&self) -> Position {
        self.live.last().map_or(self.batch.facts.head.position, |(_, position)| *position)
    }

    pub(super) fn log(&mut self, entry: LogEntry) {
        let room_nid = entry.room_id.as_ref().map(|room_id| self.batch.name(room_id.as_str()));
        let user_nid = entry.user_id.as_ref().map(|user_id| self.batch.name(user_id.as_str()));
        self.batch.writes.log.push(LogRow { room_nid, user_nid, entry });
    }

    fn event(&mut self, new: &NewEvent) {
        let code = standing_code(&new.standing);
        let known = self.batch.facts.events.get(&new.pdu.event_id).cloned();
        let takes = match &known {
            None => true,
            Some(known) => {
                known.standing == OUTLIER && code != OUTLIER || known.standing != ACCEPTED && code == ACCEPTED
            }
        };
        if !takes {
            let order = known.and_then(|known| known.order);
            return self.remember(new, order);
        }
        let order = match (known.as_ref().and_then(|known| known.order), new.placement) {
            (Some(order), _) => Some(order),
            (None, Placement::Live) => Some(self.next_position()),
            (None, Placement::Backfilled) => Some(self.order_before_all(new)),
            (None, Placement::None) => None,
        };
        let nid = self.store(new, code, order, known.as_ref());
        if code != OUTLIER {
            self.arrived(new, nid, order.is_some());
        }
        self.remember(new, order);
        if let Some(order) = order.filter(|_| code == ACCEPTED) {
            self.relation(new, order);
            self.search_text(new, nid);
        }
        if let Some(position) = order.filter(|order| *order > 0) {
            self.live_event(new, position);
        }
    }

    /// Notes where the event stands, for the changes after it. An outlier that is in the timeline already is not what
    /// they are about.
    fn remember(&mut self, new: &NewEvent, order: Option<i64>) {
        match order.filter(|_| new.placement != Placement::None) {
            Some(position) if position > 0 => self.live.push((new.pdu.event_id.clone(), position)),
            Some(order) => {
                let membership = new.pdu.membership().map(|(_, membership)| membership);
                self.backfilled = Some((new.pdu.event_id.clone(), order, membership));
            }
            None => {}
        }
    }

    fn live_event(&mut self, new: &NewEvent, position: Position) {
        self.touch_room(new.pdu.room_id.as_str(), position);
        self.log(LogEntry {
            position,
            kind: LogKind::Event,
            room_id: Some(new.pdu.room_id.clone()),
            user_id: Some(new.pdu.sender.clone()),
            event_id: Some(new.pdu.event_id.clone()),
            outbound: new.outbound,
            membership: None,
        });
        if new.standing == Standing::Accepted && !new.pdu.rejected {
            self.batch.writes.live.push(Arc::new(StoredEvent {
                pdu: Arc::clone(&new.pdu),
                standing: Standing::Accepted,
                order: Some(position),
                state_before: new.state_before.clone(),
                redacted_by: None,
            }));
        }
    }

    pub(super) fn touch_room(&mut self, room_id: &str, position: Position) {
        let nid = self.batch.name(room_id);
        if let Some(room) = self.batch.facts.rooms.get_mut(&nid) {
            (room.position, room.changed) = (position, true);
        }
    }

    fn order_before_all(&mut self, new: &NewEvent) -> i64 {
        let nid = self.batch.name(new.pdu.room_id.as_str());
        let least = self.batch.facts.least_orders.entry(nid).or_insert(0);
        *least -= 1;
        *least
    }

    /// Inserts the event, or gives a known one its new standing.
    fn store(&mut self, new: &NewEvent, code: i16, order: Option<i64>, known: Option<&Known>) -> i64 {
        let reason = new.standing.reason().map(without_nul);
        let state_base = new.state_before.as_ref().map(|reference| reference.base);
        let (nid, inserting) = match known {
            Some(Known { nid, inserting: Some(index), .. }) => {
                let row = &mut self.batch.writes.events[*index];
                (row.standing, row.reason, row.order, row.state_base) = (code, reason, order, state_base);
                (*nid, Some(*index))
            }
            Some(Known { nid, standing, .. }) => {
                let had_state = *standing != OUTLIER;
                let upgrade = Upgrade {
                    nid: *nid,
                    standing: code,
                    reason,
                    order,
                    state_base,
                    pdu: Arc::clone(&new.pdu),
                    had_state,
                };
                self.batch.writes.upgrades.push(upgrade);
                self.batch.writes.altered.push(new.pdu.event_id.clone());
                (*nid, None)
            }
            None => (self.insert(new, code, reason, order, state_base), Some(self.batch.writes.events.len() - 1)),
        };
        self.state_delta(new.state_before.as_ref(), nid);
        let depth = new.pdu.depth as i64;
        let known = Known { nid, standing: code, order, depth, inserting };
        self.batch.facts.events.insert(new.pdu.event_id.clone(), known);
        nid
    }

    fn insert(
        &mut self,
        new: &NewEvent,
        standing: i16,
        reason: Option<String>,
        order: Option<i64>,
        state_base: Option<Position>,
    ) -> i64 {
        let pdu = &new.pdu;
        self.batch.facts.head.event_nid += 1;
        let nid = self.batch.facts.head.event_nid;
        let room_nid = self.batch.name(pdu.room_id.as_str());
        let type_nid = self.batch.name(&pdu.event_type.to_string());
        let state_key_nid = pdu.state_key.as_deref().map(|state_key| self.batch.name(state_key));
        let sender_nid = self.batch.name(pdu.sender.as_str());
        if pdu.state_key.is_some() {
            let auth_events = pdu.auth_events.iter().filter(|id| is_storable(id.as_str()));
            self.batch.writes.auth_events.extend(auth_events.map(|id| row![nid, id.as_str()]));
        }
        let (pdu, names) = (Arc::clone(pdu), [room_nid, type_nid, sender_nid]);
        self.batch.writes.events.push(EventRow { nid, pdu, names, state_key_nid, standing, reason, order, state_base });
        nid
    }

    pub(super) fn state_delta(&mut self, state_before: Option<&StateReference>, nid: i64) {
        for entry in state_before.iter().flat_map(|reference| &reference.delta) {
            let type_nid = self.batch.name(&entry.event_type.to_string());
            let state_key_nid = self.batch.name(&entry.state_key);
            let event_id = entry.event_id.as_ref().map(ToString::to_string);
            let membership = entry.membership.as_ref().map(|membership| without_nul(membership.as_str()));
            self.batch.writes.state_deltas.push(row![nid, type_nid, state_key_nid, event_id, membership]);
        }
    }

    /// The event is in the graph now: nobody misses it any more, and if it is in the timeline, it may miss others.
    fn arrived(&mut self, new: &NewEvent, nid: i64, in_timeline: bool) {
        let event_id = &new.pdu.event_id;
        self.batch.writes.arrived.push(event_id.clone());
        self.batch.writes.missing.retain(|(_, missing, _), _| missing != event_id);
        if !in_timeline {
            return;
        }
        let room_nid = self.batch.name(new.pdu.room_id.as_str());
        for prev in &new.pdu.prev_events {
            let here = self.batch.facts.events.get(prev).is_some_and(|known| known.standing != OUTLIER);
            if !here && is_storable(prev.as_str()) {
                self.batch.writes.missing.insert((room_nid, prev.clone(), nid), new.pdu.depth as i64);
            }
        }
    }

    /// What the event of a timeline relates to.
    fn relation(&mut self, new: &NewEvent, order: i64) {
        let Some(relation) = new.pdu.relation() else { return };
        if !is_storable(relation.event_id.as_str()) || !is_storable(&relation.rel_type) {
            return;
        }
        let pdu = &new.pdu;
        let room_nid = self.batch.name(pdu.room_id.as_str());
        let (type_nid, sender_nid) =
            (self.batch.name(&pdu.event_type.to_string()), self.batch.name(pdu.sender.as_str()));
        let (target_id, event_id) = (relation.event_id.as_str(), pdu.event_id.as_str());
        let key = relation.key.map(|key| without_nul(&key));
        if relation.rel_type != ANNOTATION {
            self.batch.writes.related_rooms.insert(pdu.room_id.clone());
        }
        let row = row![room_nid, target_id, order, event_id, relation.rel_type, type_nid, sender_nid, key];
        self.batch.writes.relations.push(row);
    }

    fn search_text(&mut self, new: &NewEvent, nid: i64) {
        let Some((field, text)) = search::text(&new.pdu) else { return };
        let (room_nid, ts) = (self.batch.name(new.pdu.room_id.as_str()), i64::from(new.pdu.origin_server_ts.0));
        self.batch.writes.search_texts.push(row![nid, room_nid, field_code(field), ts, text]);
    }

    fn state(&mut self, room_id: &OwnedRoomId, entries: &[StateEntry]) {
        let position = self.state_position();
        self.touch_room(room_id.as_str(), position);
        self.batch.writes.state_changes.insert((position, room_id.clone()));
        for entry in entries {
            let row = self.state_row(room_id.as_str(), entry, position);
            self.batch.writes.state.set(row);
        }
    }

    pub(super) fn state_row(&mut self, room_id: &str, entry: &StateEntry, since: i64) -> StateRow {
        let (room, event_type) = (self.batch.name(room_id), self.batch.name(&entry.event_type.to_string()));
        let key = (room, event_type, self.batch.name(&entry.state_key));
        let (event_id, membership) = (entry.event_id.clone(), entry.membership.clone());
        StateRow { key, since, until: None, event_id, membership }
    }

    fn historic_state(&mut self, change: &Change) {
        let Change::HistoricState { room_id, event_type, state_key, before } = change else { return };
        let Some((event_id, order, membership)) = self.backfilled.clone() else { return };
        let (room_nid, type_nid) = (self.batch.name(room_id.as_str()), self.batch.name(&event_type.to_string()));
        let key = (room_nid, type_nid, self.batch.name(state_key));
        let before = before.clone();
        self.batch.writes.historic.push(HistoricState { key, order, event_id, membership, before });
    }

    fn transaction(&mut self, change: &Change, event_id: &OwnedEventId, ts: u64) {
        let Some(key) = client_transaction(change) else { return };
        let (user_id, device_id, scope, transaction_id) = key.clone();
        let row = row![transaction_id, user_id, device_id, scope, event_id.as_str(), ts as i64];
        self.batch.writes.transactions.push(row);
        self.batch.facts.done.insert(key, event_id.clone());
    }

    fn forward_extremities(&mut self, room_id: &str, event_ids: &[OwnedEventId]) {
        let nid = self.batch.name(room_id);
        let events = &self.batch.facts.events;
        let depth = |event_id: &OwnedEventId| events.get(event_id).map_or(0, |known| known.depth);
        let extremities: Vec<(&str, i64)> = event_ids.iter().map(|id| (id.as_str(), depth(id))).collect();
        let json = serde_json::json!(extremities).to_string();
        if let Some(room) = self.batch.facts.rooms.get_mut(&nid) {
            (room.forward_extremities, room.changed) = (json, true);
        }
    }

    fn membership(&mut self, change: &Change) {
        let Change::Membership { user_id, room_id, membership, event_id, sender, stripped_state } = change else {
            return;
        };
        let position = self.next_position();
        let (user_nid, room_nid) = (self.batch.name(user_id.as_str()), self.batch.name(room_id.as_str()));
        let sender_nid = self.batch.name(sender.as_str());
        let stripped_state = stripped_state.as_ref().map(|state| state.get().to_owned());
        let row = row![
            user_nid,
            room_nid,
            without_nul(membership.as_str()),
            event_id.as_str(),
            sender_nid,
            position,
            stripped_state,
            false
        ];
        self.batch.writes.memberships.insert((user_nid, room_nid), row);
        self.count_anew(Some(user_id), Some(room_id));
        self.log(LogEntry {
            position,
            kind: LogKind::Membership,
            room_id: Some(room_id.clone()),
            user_id: Some(user_id.clone()),
            event_id: Some(event_id.clone()),
            outbound: false,
            membership: Some(membership.clone()),
        });
    }

    fn receipt(&mut self, change: &Change) {
        let Change::Receipt { room_id, user_id, receipt_type, thread_id, event_id, ts } = change else { return };
        let position = self.next_position();
        let (room_nid, user_nid) = (self.batch.name(room_id.as_str()), self.batch.name(user_id.as_str()));
        let thread = thread_id.clone().unwrap_or_default();
        let ts = i64::from(ts.0);
        let row = row![room_nid, user_nid, receipt_type.as_str(), thread.as_str(), event_id.as_str(), ts, position];
        self.batch.writes.receipts.insert((room_nid, user_nid, receipt_type.to_string(), thread), row);
        let ours = user_id.server_name() == self.batch.server_name;
        self.log(LogEntry {
            position,
            kind: LogKind::Receipt,
            room_id: Some(room_id.clone()),
            user_id: Some(user_id.clone()),
            event_id: Some(event_id.clone()),
            outbound: ours && *receipt_type == ReceiptType::Read,
            membership: None,
        });
    }

    fn notification(&mut self, change: &Change) {
        let Change::Notification { room_id, event_id, sender, thread_root, ts, is_call, actions, everyone, notified } =
            change
        else {
            return;
        };
        let live = self.live.iter().find(|(live, _)| live == event_id).map(|(_, position)| *position);
        let Some(position) = live.or(self.last) else { return };
        let (room_nid, sender_nid) = (self.batch.name(room_id.as_str()), self.batch.name(sender.as_str()));
        let actions: Vec<&str> = actions.iter().map(|actions| actions.get()).collect();
        let actions = without_nul(&format!("[{}]", actions.join(",")));
        let thread_id = thread_root.as_ref().map_or(MAIN_THREAD, |root| root.as_str());
        let ts = i64::from(ts.0);
        let (index, highlight) =
            (everyone.map(|notice| notice.actions as i64), everyone.is_some_and(|it| it.highlight));
        let event_id = event_id.as_str();
        let event = row![position, room_nid, event_id, sender_nid, thread_id, ts, actions, index, highlight, *is_call];
        self.batch.writes.notified_events.push(event);
        for notified in notified {
            let user_nid = self.batch.name(notified.user_id.as_str());
            let index = notified.notice.map_or(NOT_NOTIFIED, |notice| notice.actions as i64);
            let highlight = notified.notice.is_some_and(|notice| notice.highlight);
            let row = row![position, user_nid, highlight, index];
            self.batch.writes.notified.push(row);
        }
        let unread = UnreadChange::notified((room_id, sender), thread_root.as_ref(), *everyone, notified);
        self.batch.writes.unread_changes.push((position, unread));
    }

    /// What was counted as unread no longer holds: for a user or all, in a room or all.
    fn count_anew(&mut self, user_id: Option<&OwnedUserId>, room_id: Option<&OwnedRoomId>) {
        let now = self.last.unwrap_or(self.batch.facts.head.position);
        let anew = UnreadChange::Anew(user_id.cloned(), room_id.cloned());
        self.batch.writes.unread_changes.push((now, anew));
    }

    fn read(&mut self, change: &Change) {
        let Change::Read { room_id, user_id, thread_id, up_to } = change else { return };
        let now = self.last.unwrap_or(self.batch.facts.head.position);
        let position = up_to.unwrap_or_else(|| self.state_position().max(self.last.unwrap_or(0)));
        let (room_nid, user_nid) = (self.batch.name(room_id.as_str()), self.batch.name(user_id.as_str()));
        let key = (user_nid, room_nid, thread_id.clone().unwrap_or_default());
        let furthest = self.batch.writes.read_up_to.entry(key).or_insert((position, now));
        if position > furthest.0 {
            *furthest = (position, now);
        }
        let read = RecentRead {
            room_id: room_id.clone(),
            user_id: user_id.clone(),
            thread_id: thread_id.clone(),
            up_to: position,
        };
        self.batch.writes.unread_changes.push((now, UnreadChange::Read(read)));
    }

    fn account_data(&mut self, change: &Change) {
        let Change::AccountData { user_id, room_id, event_type, content } = change else { return };
        let position = self.next_position();
        let user_nid = self.batch.name(user_id.as_str());
        let room_nid = room_id.as_ref().map_or(0, |room_id| self.batch.name(room_id.as_str()));
        let row = row![user_nid, room_nid, event_type.as_str(), content.get(), position];
        self.batch.writes.account_data.insert((user_nid, room_nid, event_type.clone()), row);
        self.log(LogEntry {
            position,
            kind: LogKind::AccountData,
            room_id: room_id.clone(),
            user_id: Some(user_id.clone()),
            event_id: None,
            outbound: false,
            membership: None,
        });
    }

    fn thread_subscription(&mut self, change: &Change) {
        let Change::ThreadSubscription { user_id, room_id, thread_root, subscribed, automatic } = change else {
            return;
        };
        let position = self.next_position();
        let (user_nid, room_nid) = (self.batch.name(user_id.as_str()), self.batch.name(room_id.as_str()));
        let row = row![user_nid, room_nid, thread_root.as_str(), *subscribed, *automatic, position];
        self.batch.writes.thread_subscriptions.insert((user_nid, room_nid, thread_root.to_string()), row);
        self.log(LogEntry {
            position,
            kind: LogKind::ThreadSubscription,
            room_id: None,
            user_id: Some(user_id.clone()),
            event_id: None,
            outbound: false,
            membership: None,
        });
    }
}
