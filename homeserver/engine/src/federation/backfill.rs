//! Reading a room's history backwards from other servers, when somebody pages past what we have.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events>

use std::sync::Arc;

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{NewEvent, Placement, Standing},
    room::{
        EventsById,
        authorise::check_auth_events,
        redact::{self, takes_effect},
    },
};
use ruma::{
    OwnedEventId, OwnedServerName,
    events::{StateEventType, TimelineEventType},
};
use storage::Submission;

use crate::{Engine, Result, rooms::commit_error};

/// The most events of one answer that we take.
const MAX_EVENTS: usize = 100;
/// How many gaps one request names.
const MAX_GAPS_NAMED: usize = 20;

impl Engine {
    /// Fetches events from before what we have of a room. Tells whether there were any.
    pub(crate) async fn backfill(&self, room: &RoomSnapshot, limit: usize) -> Result<bool> {
        let mut gaps = self.storage().missing_prev_events(&room.room_id).await?;
        gaps.sort_by_key(|(_, _, depth)| std::cmp::Reverse(*depth));
        let deepest = gaps.first().map_or(0, |(_, _, depth)| *depth);
        let from: Vec<OwnedEventId> = gaps.into_iter().map(|(_, known, _)| known).take(MAX_GAPS_NAMED).collect();
        if from.is_empty() {
            return Ok(false);
        }
        // The named events come back as well.
        let limit = (limit + from.len()).min(MAX_EVENTS);
        let mut asking = self.asking(room);
        while let Some(server) = asking.next() {
            let asked = self.federation().backfill(&server, &room.room_id, &from, limit);
            let Some(raws) = asking.answer(asked).await else { continue };
            let raws = &raws[..raws.len().min(MAX_EVENTS)];
            let mut pdus = self.verified_all(&room.room_id, &room.rules, raws).await;
            // What comes after all that we lack is no history: taken as that, it would never be told to anybody.
            pdus.retain(|pdu| pdu.depth <= deepest);
            // What comes in the meantime need not wait for servers that do not answer.
            let _turn = self.inner.ingest.lock(room.room_id.as_str()).await;
            if self.take_history(&server, room, pdus).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn take_history(
        &self,
        server: &OwnedServerName,
        room: &RoomSnapshot,
        mut pdus: Vec<Arc<Pdu>>,
    ) -> Result<bool> {
        let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id.clone()).collect();
        let stored = self.storage().events(&ids).await?;
        let known: std::collections::HashSet<&OwnedEventId> = stored
            .iter()
            .filter(|event| event.standing != Standing::Outlier)
            .map(|event| &event.pdu.event_id)
            .collect();
        pdus.retain(|pdu| !known.contains(&pdu.event_id));
        pdus.sort_by(|a, b| (b.depth, &b.event_id).cmp(&(a.depth, &a.event_id)));
        pdus.dedup_by(|a, b| a.event_id == b.event_id);
        let (mut changes, mut accepted) = (Vec::new(), Vec::new());
        for pdu in &pdus {
            if self.fetch_auth_events(server, room, pdu).await.is_err() {
                continue;
            }
            let (standing, new) = self.history_changes(room, pdu).await?;
            changes.extend(new);
            if standing == Standing::Accepted {
                accepted.push(pdu.clone());
            }
        }
        // After all events, for a redaction comes before what it redacts.
        for pdu in &accepted {
            changes.extend(self.history_redaction(room, pdu, &accepted).await?);
        }
        if changes.is_empty() {
            return Ok(false);
        }
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map_err(commit_error)?;
        Ok(true)
    }

    /// What a redaction does to an event that is known, or in the same piece of history, or still to come.
    async fn history_redaction(
        &self,
        room: &RoomSnapshot,
        redaction: &Pdu,
        history: &[Arc<Pdu>],
    ) -> Result<Option<Change>> {
        let target_id = redaction.redaction_target(room.rules.redaction.content_field_redacts);
        let Some(target) = history.iter().find(|pdu| Some(&pdu.event_id) == target_id.as_ref()) else {
            return self.redaction_change(room, redaction).await;
        };
        let levels = self.power_levels(room).await?;
        Ok(takes_effect(redaction, target, &levels).then(|| redact::change(redaction, target, &room.rules)).flatten())
    }

    async fn history_changes(&self, room: &RoomSnapshot, pdu: &Arc<Pdu>) -> Result<(Standing, Vec<Change>)> {
        let mut ids = pdu.auth_events.clone();
        ids.extend(room.state_event_id(&StateEventType::RoomCreate, "").map(ToOwned::to_owned));
        let stored = self.storage().events(&ids).await?;
        let mut auth_events: EventsById =
            stored.iter().map(|event| (event.pdu.event_id.clone(), event.pdu.clone())).collect();
        auth_events.extend(self.fit_for_now(room, &stored).await?);
        let (pdu, standing) = match check_auth_events(&room.rules.authorization, pdu, &auth_events) {
            Ok(()) => (pdu.clone(), Standing::Accepted),
            Err(reason) => (Arc::new(Pdu::clone(pdu).into_rejected()), Standing::Rejected(reason.to_string())),
        };
        let accepted = standing == Standing::Accepted;
        // Also what is rejected has its place, though it is not shown: what lies before it is history too.
        let placement = Placement::Backfilled;
        let event =
            NewEvent { pdu: pdu.clone(), standing: standing.clone(), placement, state_before: None, outbound: false };
        let mut changes = vec![Change::Event(Box::new(event))];
        if let (true, Some((event_type, state_key))) = (accepted, pdu.state_key_pair()) {
            // The member event before is among those that authorise the new one; of other state, the value before is
            // not known.
            let same_key = |event: &&Arc<Pdu>| {
                event.event_type == TimelineEventType::RoomMember && event.state_key_pair() == pdu.state_key_pair()
            };
            let before = auth_events.values().find(same_key).map(|event| event.event_id.clone());
            let room_id = room.room_id.clone();
            changes.push(Change::HistoricState { room_id, event_type, state_key, before });
        }
        if accepted {
            changes.extend(self.awaited_redaction_change(room, &pdu).await?);
        }
        Ok((standing, changes))
    }
}
