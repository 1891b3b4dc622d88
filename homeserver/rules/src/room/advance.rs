//! What an event changes once it is accepted, and the room as it is then. Our own events and those of others alike.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    OwnedEventId, OwnedServerName, ServerName, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use super::{EventsById, RoomSnapshot};
use crate::{
    Pdu,
    change::{Change, NewEvent, Placement, Standing, StateEntry, StateReference},
};

/// An event on its way into the room; [`advance`] fills in what follows from it.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// Where it goes.
    pub placement: Placement,
    /// What of the resolved state differs after it.
    pub entries: Vec<StateEntry>,
    /// The state before it, when it forks the graph.
    pub state_before: Option<StateReference>,
    /// The forward extremities after it.
    pub forward_extremities: Vec<(OwnedEventId, u64)>,
    /// Whether we send it to the other servers, if there are any.
    pub outbound: bool,
    /// Filled in: all that is to be committed.
    pub changes: Vec<Change>,
    /// Filled in: the room after it, but for its position and revision.
    pub room: Option<RoomSnapshot>,
}

impl Advance {
    /// An event from another server at the head of the timeline, with what of the state differs after it.
    pub fn new(pdu: Arc<Pdu>, entries: Vec<StateEntry>) -> Self {
        Self {
            pdu,
            placement: Placement::Live,
            entries,
            state_before: None,
            forward_extremities: Vec::new(),
            outbound: false,
            changes: Vec::new(),
            room: None,
        }
    }
}

/// Works out the changes. `events` must hold the member events among the entries that are not the event itself.
pub fn advance(room: &RoomSnapshot, mut step: Advance, events: &EventsById) -> Advance {
    let mut after = room.clone();
    after.apply(&step.entries);
    after.forward_extremities.clone_from(&step.forward_extremities);

    let recipient = recipient(room, &step);
    // Who looks for what is to be sent need not look at the rooms of a server that is alone.
    let is_heard = recipient.is_some() || room.has_other_servers() || after.has_other_servers();
    let mut changes = vec![Change::Event(Box::new(NewEvent {
        pdu: step.pdu.clone(),
        standing: Standing::Accepted,
        placement: step.placement,
        state_before: step.state_before.clone(),
        outbound: step.outbound && is_heard,
    }))];
    if !step.entries.is_empty() {
        changes.push(Change::State { room_id: room.room_id.clone(), entries: step.entries.clone() });
    }
    changes.extend(recipient);
    changes.extend(server_changes(room, &after, &step.entries));
    changes.extend(membership_changes(room, &step, events));
    let event_ids = after.forward_extremities.iter().map(|(event_id, _)| event_id.clone()).collect();
    changes.push(Change::ForwardExtremities { room_id: room.room_id.clone(), event_ids });

    step.changes = changes;
    step.room = Some(after);
    step
}

/// The server outside of the room of whose user the event ends an invitation or a knock. Of what its user did through us
/// it knows.
fn recipient(before: &RoomSnapshot, step: &Advance) -> Option<Change> {
    let (target, membership) = step.pdu.membership().filter(|_| step.outbound)?;
    let was_waiting = matches!(before.membership(&target), MembershipState::Invite | MembershipState::Knock);
    let is_over = matches!(membership, MembershipState::Leave | MembershipState::Ban);
    let server = target.server_name();
    let must_hear = was_waiting && is_over && server != step.pdu.sender.server_name() && !before.has_server(server);
    must_hear.then(|| Change::Recipient { server: server.to_owned() })
}

/// Servers that came into the room or left it.
pub fn server_changes(before: &RoomSnapshot, after: &RoomSnapshot, entries: &[StateEntry]) -> Vec<Change> {
    let members = entries.iter().filter(|entry| entry.event_type == StateEventType::RoomMember);
    let server =
        |entry: &StateEntry| Some(<&UserId>::try_from(entry.state_key.as_str()).ok()?.server_name().to_owned());
    let servers: BTreeSet<OwnedServerName> = members.filter_map(server).collect();
    let moved = servers.into_iter().filter(|server| before.has_server(server) != after.has_server(server));
    moved
        .map(|server| Change::RoomServer { room_id: after.room_id.clone(), present: after.has_server(&server), server })
        .collect()
}

/// The same where not only the given members changed, but also whether all of them are known.
pub fn all_server_changes(before: &RoomSnapshot, after: &RoomSnapshot) -> Vec<Change> {
    let servers: BTreeSet<&ServerName> = before.servers().chain(after.servers()).collect();
    let moved = servers.into_iter().filter(|server| before.has_server(server) != after.has_server(server));
    let change = |server: &ServerName| Change::RoomServer {
        room_id: after.room_id.clone(),
        server: server.to_owned(),
        present: after.has_server(server),
    };
    moved.map(change).collect()
}

/// What changed for each user whose member event changed. The engine keeps those of local users.
fn membership_changes(room: &RoomSnapshot, step: &Advance, events: &EventsById) -> Vec<Change> {
    let members = step.entries.iter().filter(|entry| entry.event_type == StateEventType::RoomMember);
    let change = |entry: &StateEntry| {
        let user_id = UserId::parse(entry.state_key.as_str()).ok()?;
        let (event_id, membership, sender) = if let Some(event_id) = &entry.event_id {
            let event = if *event_id == step.pdu.event_id { Some(&step.pdu) } else { events.get(event_id) };
            (event_id.clone(), entry.membership.clone()?, event?.sender.clone())
        } else {
            // Resolution left nothing for the user, as if they had never been there. The event is the last there was.
            let last = room.state_event_id(&entry.event_type, &entry.state_key)?;
            (last.to_owned(), MembershipState::Leave, user_id.clone())
        };
        let room_id = room.room_id.clone();
        Some(Change::Membership { user_id, room_id, membership, event_id, sender, stripped_state: None })
    };
    members.filter_map(change).collect()
}

/// Drops the membership changes of other servers' users: storage keeps track of ours only.
pub fn keep_local_memberships(changes: &mut Vec<Change>, server_name: &ServerName) {
    changes.retain(|change| match change {
        Change::Membership { user_id, .. } => user_id.server_name() == server_name,
        _ => true,
    });
}
