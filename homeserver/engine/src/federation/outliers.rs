//! Events known only as part of a state or an auth chain.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rules::{
    Change, Pdu, RoomSnapshot,
    change::{NewEvent, Placement, Standing},
    room::{
        EventsById,
        authorise::{check_auth_events, implied_create_id},
    },
};
use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
};
use storage::{StoredEvent, Submission};

use crate::{Engine, Result, apart::JUDGING, rooms::commit_error};

/// How many outliers one commit stores: others' commits wait for it.
const OUTLIERS_AT_ONCE: usize = 1_000;

/// Checks events against their auth events, ancestors first, and marks those that fail as rejected. `known` holds
/// events that are stored already.
///
/// Left out are events that name auth events which are in neither, and what builds upon these: to be without an
/// ancestor, because a server or its key is away for a moment, says nothing about an event. It is judged when it comes
/// again together with what it lacks.
pub(crate) fn check_outliers(
    rules: &AuthorizationRules,
    pdus: &[Arc<Pdu>],
    known: &EventsById,
) -> Vec<(Arc<Pdu>, Standing)> {
    let mut checked = known.clone();
    let mut outcome = Vec::with_capacity(pdus.len());
    for pdu in ancestors_first(pdus) {
        if !has_ancestors(rules, &pdu, &checked) {
            tracing::debug!(room.id = %pdu.room_id, event.id = %pdu.event_id, "left out for want of auth events");
            continue;
        }
        let (pdu, standing) = match check_auth_events(rules, &pdu, &checked) {
            Ok(()) => (pdu, Standing::Outlier),
            Err(reason) => {
                let reason = format!("by its auth events: {reason}");
                (Arc::new(Pdu::clone(&pdu).into_rejected()), Standing::Rejected(reason))
            }
        };
        checked.insert(pdu.event_id.clone(), pdu.clone());
        outcome.push((pdu, standing));
    }
    outcome
}

/// Whether everything is there that decides about an event.
fn has_ancestors(rules: &AuthorizationRules, pdu: &Pdu, known: &EventsById) -> bool {
    let create = implied_create_id(rules, pdu);
    pdu.auth_events.iter().chain(&create).all(|event_id| known.contains_key(event_id))
}

/// The events in an order in which each comes after those of its auth events that are among them, and all after the
/// create event, which authorises them from version 12 on without being named. Cycles, which no honest hash allows, end
/// where they began.
fn ancestors_first(pdus: &[Arc<Pdu>]) -> Vec<Arc<Pdu>> {
    let by_id: HashMap<&OwnedEventId, &Arc<Pdu>> = pdus.iter().map(|pdu| (&pdu.event_id, pdu)).collect();
    let mut ordered = Vec::with_capacity(pdus.len());
    let mut entered = HashSet::new();
    let (creates, others): (Vec<_>, Vec<_>) =
        pdus.iter().partition(|pdu| pdu.event_type == TimelineEventType::RoomCreate);
    for root in creates.into_iter().chain(others) {
        let mut stack = vec![(root, false)];
        while let Some((pdu, parents_done)) = stack.pop() {
            if parents_done {
                ordered.push(pdu.clone());
            } else if entered.insert(&pdu.event_id) {
                stack.push((pdu, true));
                stack.extend(pdu.auth_events.iter().filter_map(|id| by_id.get(id)).map(|parent| (*parent, false)));
            }
        }
    }
    ordered
}

/// Whether an event was rejected, and that may not stand: what came while not all members of its room were known is yet to
/// be judged by all of the state.
fn may_be_cleared(room: &RoomSnapshot, event: &StoredEvent) -> bool {
    let is_live = event.order.is_some_and(|order| order > 0) || event.state_before.is_some();
    room.is_partial() && is_live && event.pdu.rejected
}

/// The change that stores an outlier.
pub(crate) fn outlier_change(pdu: Arc<Pdu>, standing: Standing) -> Change {
    let placement = Placement::None;
    Change::Event(Box::new(NewEvent { pdu, standing, placement, state_before: None, outbound: false }))
}

impl Engine {
    /// Stores events that another server says are part of a state or an auth chain, as far as they are not stored.
    pub(crate) async fn store_outliers(&self, rules: &AuthorizationRules, pdus: Vec<Arc<Pdu>>) -> Result<()> {
        let ids: Vec<OwnedEventId> = pdus.iter().map(|pdu| pdu.event_id.clone()).collect();
        let stored = self.storage().event_ids_known(&ids).await?;
        let new: Vec<Arc<Pdu>> = pdus.into_iter().filter(|pdu| !stored.contains(&pdu.event_id)).collect();
        let ordered = self.apart(new.len(), move || ancestors_first(&new)).await;
        for new in ordered.chunks(OUTLIERS_AT_ONCE) {
            self.store_new_outliers(rules, new).await?;
        }
        Ok(())
    }

    /// Those of some events that were rejected by a part of the state only, without the mark: until all of it is known, what
    /// they authorise must not be rejected for good because of that. What its own auth events do not allow is not among
    /// them.
    pub(super) async fn fit_for_now(&self, room: &RoomSnapshot, events: &[Arc<StoredEvent>]) -> Result<EventsById> {
        let (mut open, mut known) = (EventsById::new(), EventsById::new());
        let mut queue = events.to_vec();
        queue.retain(|event| may_be_cleared(room, event));
        while !queue.is_empty() {
            open.extend(queue.iter().map(|event| (event.pdu.event_id.clone(), Arc::new(event.pdu.judged(false)))));
            let mut needed: Vec<OwnedEventId> = queue.iter().flat_map(|event| event.pdu.auth_events.clone()).collect();
            needed.extend(room.state_event_id(&StateEventType::RoomCreate, "").map(ToOwned::to_owned));
            needed.retain(|event_id| !open.contains_key(event_id) && !known.contains_key(event_id));
            let (more, others): (Vec<_>, Vec<_>) =
                self.storage().events(&needed).await?.into_iter().partition(|event| may_be_cleared(room, event));
            known.extend(others.into_iter().map(|event| (event.pdu.event_id.clone(), event.pdu.clone())));
            queue = more;
        }
        if open.is_empty() {
            return Ok(open);
        }
        let (rules, open): (_, Vec<_>) = (room.rules.authorization.clone(), open.into_values().collect());
        let checked = self.apart(JUDGING * open.len(), move || check_outliers(&rules, &open, &known)).await;
        let fit = checked.into_iter().filter(|(_, standing)| *standing == Standing::Outlier);
        Ok(fit.map(|(pdu, _)| (pdu.event_id.clone(), pdu)).collect())
    }

    /// Stores some of them, all of whose ancestors are stored or among them.
    async fn store_new_outliers(&self, rules: &AuthorizationRules, new: &[Arc<Pdu>]) -> Result<()> {
        let mut needed: Vec<OwnedEventId> = new.iter().flat_map(|pdu| pdu.auth_events.clone()).collect();
        let room = self.room(&new[0].room_id).await?;
        let create = room.as_ref().and_then(|room| room.state_event_id(&StateEventType::RoomCreate, ""));
        needed.extend(create.map(ToOwned::to_owned));
        let stored = self.storage().events(&needed).await?;
        let mut known: EventsById =
            stored.iter().map(|event| (event.pdu.event_id.clone(), event.pdu.clone())).collect();
        if let Some(room) = room.as_ref() {
            known.extend(self.fit_for_now(room, &stored).await?);
        }
        let (rules, new) = (rules.clone(), new.to_vec());
        let checked = self.apart(JUDGING * new.len(), move || check_outliers(&rules, &new, &known)).await;
        let changes = checked.into_iter().map(|(pdu, standing)| outlier_change(pdu, standing)).collect();
        let submission = Submission { room: None, changes };
        self.storage().commit(submission).await.map(drop).map_err(commit_error)
    }
}
