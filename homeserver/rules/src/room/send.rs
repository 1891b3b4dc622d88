//! One of our users sends an event: choose what it builds on, build, sign, authorise, work out what it changes.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#pdus>

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::EventsReferenceFormatVersion,
    signatures::reference_hash,
};
use serde_json::value::to_raw_value;

use super::{
    EventsById, RoomSnapshot, StateKey,
    advance::{Advance, advance},
    authorise::{NotAllowed, check_auth_events, check_create, check_current_state, deciding_keys, select_auth_events},
    receive::MAX_FORWARD_EXTREMITIES,
};
use crate::{
    Pdu,
    change::{Placement, StateEntry},
    event::{
        BuildError, Draft, ServerKey,
        build::{LegacyParts, build_sticky},
        read_json,
    },
    pdu::MAX_DEPTH,
};

/// How many `prev_events` an event of ours names at most; servers refuse more than 20. It names all of the head, since
/// what it left out would never be named by anyone.
pub const MAX_PREV_EVENTS: usize = MAX_FORWARD_EXTREMITIES;

/// What a user wants to send.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Who.
    pub sender: OwnedUserId,
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// For a redaction: the event to redact.
    pub redacts: Option<OwnedEventId>,
    /// For how long it is to be sticky, in milliseconds, if it is.
    pub sticky_duration_ms: Option<u32>,
    /// What time it is to bear, if not that of its making: application services tell of what happened elsewhere.
    pub origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
}

/// What else decides.
pub struct Circumstances<'a> {
    /// The key that signs.
    pub key: &'a ServerKey,
    /// The time.
    pub now: MilliSecondsSinceUnixEpoch,
    /// A random string, for the event ids of versions 1 and 2.
    pub id_seed: String,
    /// The events of [`keys_for`], and, in versions 1 and 2, the forward extremities.
    pub events: &'a EventsById,
}

/// Why an event was not made.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The user may not.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// The event cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The state that decides about an intent: its events must be among the circumstances.
pub fn keys_for(room: &RoomSnapshot, intent: &Intent) -> Result<Vec<StateKey>, NotAllowed> {
    let content = to_raw_value(&intent.content).map_err(|error| NotAllowed(error.to_string()))?;
    let rules = &room.rules.authorization;
    deciding_keys(rules, &intent.event_type, &intent.sender, intent.state_key.as_deref(), &content)
}

/// Makes the event, if it is allowed. Does not say yet what it changes.
pub fn make(room: &RoomSnapshot, intent: Intent, circumstances: &Circumstances<'_>) -> Result<Arc<Pdu>, SendError> {
    let is_create = intent.event_type == TimelineEventType::RoomCreate;
    check_authoriser(room, &intent, circumstances.key)?;
    check_levels(&intent)?;
    let sticky_duration_ms = intent.sticky_duration_ms;
    let draft = draft(room, intent, circumstances.now)?;
    let draft = with_legacy_parts(draft, room, circumstances);
    let pdu = build_sticky(draft, sticky_duration_ms, &room.rules, circumstances.key)?;
    if is_create {
        check_create(room, &pdu)?;
        check_auth_events(&room.rules.authorization, &pdu, circumstances.events)?;
    } else {
        check_current_state(room, &pdu, circumstances.events)?;
    }
    Ok(Arc::new(pdu))
}

/// A join that a member authorises is signed by that member's server, too, or others drop it. By ours it is; for that of
/// another there are `make_join` and `send_join`.
fn check_authoriser(room: &RoomSnapshot, intent: &Intent, key: &ServerKey) -> Result<(), NotAllowed> {
    let authoriser = intent.content.get("join_authorised_via_users_server").and_then(|user_id| user_id.as_str());
    let counts = room.rules.signatures.check_join_authorised_via_users_server
        && intent.event_type == TimelineEventType::RoomMember;
    match authoriser.map(<&UserId>::try_from) {
        Some(Ok(user_id)) if counts && user_id.server_name() != key.server_name() => {
            Err(NotAllowed(format!("the server of {user_id} would have to sign the event")))
        }
        _ => Ok(()),
    }
}

/// Versions 1 to 9 read text as numbers for the sake of old events. We make no new ones.
fn check_levels(intent: &Intent) -> Result<(), NotAllowed> {
    const LEVELS: [&str; 7] = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"];
    const MAPS: [&str; 3] = ["users", "events", "notifications"];
    let levels = LEVELS.iter().filter_map(|field| intent.content.get(*field));
    let entries = MAPS.iter().filter_map(|field| intent.content.get(*field)?.as_object()).flat_map(|map| map.values());
    let any_text = levels.chain(entries).any(|level| level.as_str().is_some());
    if intent.event_type == TimelineEventType::RoomPowerLevels && any_text {
        return Err(NotAllowed("power levels are numbers, not text".to_owned()));
    }
    Ok(())
}

/// The event that an intent would be, built on the head of the room.
pub(crate) fn draft(room: &RoomSnapshot, intent: Intent, now: MilliSecondsSinceUnixEpoch) -> Result<Draft, NotAllowed> {
    let is_create = intent.event_type == TimelineEventType::RoomCreate;
    if is_create && !room.forward_extremities.is_empty() {
        return Err(NotAllowed("the room has been created already".to_owned()));
    }
    let keys = keys_for(room, &intent)?;
    let mut latest = room.forward_extremities.clone();
    latest.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    latest.truncate(MAX_PREV_EVENTS);
    let depth = latest.iter().map(|(_, depth)| depth + 1).max().unwrap_or(1).min(MAX_DEPTH);
    let names_no_room = is_create && !room.rules.event_format.require_room_create_room_id;
    let content_redacts = room.rules.redaction.content_field_redacts;
    Ok(Draft {
        room_id: (!names_no_room).then(|| room.room_id.clone()),
        sender: intent.sender,
        event_type: intent.event_type,
        state_key: intent.state_key,
        content: intent.content,
        redacts: intent.redacts.filter(|_| !content_redacts),
        prev_events: latest.into_iter().map(|(event_id, _)| event_id).collect(),
        auth_events: select_auth_events(room, &keys),
        depth,
        origin_server_ts: intent.origin_server_ts.unwrap_or(now),
        legacy: None,
    })
}

/// What our event changes, built on the head of the room as it is.
pub fn accept(room: &RoomSnapshot, pdu: &Arc<Pdu>, events: &EventsById) -> Advance {
    let entries: Vec<StateEntry> = entry_of(pdu).into_iter().collect();
    let advanced = Advance {
        outbound: true,
        placement: Placement::Live,
        forward_extremities: vec![(pdu.event_id.clone(), pdu.depth)],
        ..Advance::new(pdu.clone(), entries)
    };
    advance(room, advanced, events)
}

/// The entry of the room state that a state event is.
pub fn entry_of(pdu: &Pdu) -> Option<StateEntry> {
    let (event_type, state_key) = pdu.state_key_pair()?;
    let is_member = event_type == StateEventType::RoomMember;
    let membership = is_member.then(|| pdu.membership()).flatten().map(|(_, membership)| membership);
    Some(StateEntry { event_type, state_key, event_id: Some(pdu.event_id.clone()), membership })
}

fn with_legacy_parts(mut draft: Draft, room: &RoomSnapshot, circumstances: &Circumstances<'_>) -> Draft {
    if !matches!(room.rules.events_reference_format, EventsReferenceFormatVersion::V1) {
        return draft;
    }
    let referred = draft.prev_events.iter().chain(&draft.auth_events);
    let hash = |event_id: &OwnedEventId| {
        let object = read_json(&circumstances.events.get(event_id)?.json).ok()?;
        Some((event_id.clone(), reference_hash(&object, &room.rules).ok()?))
    };
    let reference_hashes: BTreeMap<_, _> = referred.filter_map(hash).collect();
    draft.legacy = Some(LegacyParts { id_seed: circumstances.id_seed.clone(), reference_hashes });
    draft
}
