//! What is read of rooms: sync, state, history, relations, search.

use ruma::api::client::{context, membership, peeking, relations, room, search, state, threads};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// An empty state key may be left out, with its slash or without.
const STATE_WITHOUT_KEY: &[&str] = &[
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
];

/// The chapter that following threads extends.
const THREADING: &str = "threading";

/// ruma knows no type for it, so this path it does not list.
const INITIAL_SYNC_OF_OLD: &[&str] = &["/_matrix/client/r0/rooms/{room_id}/initialSync"];

pub(super) fn rows(table: Table) -> Table {
    following(relating(reading(syncing(table))))
}

fn syncing(table: Table) -> Table {
    use crate::sync as syncing;
    table
        .asked::<syncing::Request, _>(at("get_matrixclientv3sync"), syncing::sync)
        .asked::<syncing::sliding::Request, _>(
            at("https://github.com/matrix-org/matrix-spec-proposals/pull/4186"),
            syncing::sliding::sliding_sync,
        )
}

fn reading(table: Table) -> Table {
    use crate::{events, rooms};
    table
        .asked_for::<state::get_state_events::v3::Request, _, _>(
            at("get_matrixclientv3roomsroomidstate"),
            rooms::state::list,
        )
        .asked::<state::get_state_event_for_key::v3::Request, _>(
            at("get_matrixclientv3roomsroomidstateeventtypestatekey").also_at(STATE_WITHOUT_KEY),
            rooms::state::get,
        )
        .asked_for::<membership::get_member_events::v3::Request, _, _>(
            at("get_matrixclientv3roomsroomidmembers"),
            rooms::members::members,
        )
        .asked_for::<membership::joined_members::v3::Request, _, _>(
            at("get_matrixclientv3roomsroomidjoined_members"),
            rooms::joined_members::joined_members,
        )
        .asked::<rooms::messages::Request, _>(
            at("get_matrixclientv3roomsroomidmessages").rated(Class::Costly),
            rooms::messages::messages,
        )
        .asked::<room::get_event_by_timestamp::v1::Request, _>(
            at("get_matrixclientv1roomsroomidtimestamp_to_event").rated(Class::Costly),
            rooms::timestamp_to_event::timestamp_to_event,
        )
        .asked_for::<peeking::listen_to_new_events::v3::Request, _, _>(
            at("peeking_get_matrixclientv3events").rated(Class::Costly),
            events::listen,
        )
        .asked::<rooms::initial_sync::Request, _>(
            at("get_matrixclientv3roomsroomidinitialsync").rated(Class::Costly).also_at(INITIAL_SYNC_OF_OLD),
            rooms::initial_sync::initial_sync,
        )
        .asked::<room::get_room_event::v3::Request, _>(
            at("get_matrixclientv3roomsroomideventeventid"),
            rooms::event::event,
        )
        .asked::<context::get_context::v3::Request, _>(
            at("get_matrixclientv3roomsroomidcontexteventid").rated(Class::Costly),
            rooms::context::context,
        )
}

fn relating(table: Table) -> Table {
    use crate::{rooms, search as searching};
    table
        .asked::<relations::get_relating_events::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventid").rated(Class::Costly),
            rooms::relations::relations,
        )
        .asked::<relations::get_relating_events_with_rel_type::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventidreltype").rated(Class::Costly),
            rooms::relations::relations_of_kind,
        )
        .asked::<relations::get_relating_events_with_rel_type_and_event_type::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventidreltypeeventtype").rated(Class::Costly),
            rooms::relations::relations_of_kind_and_type,
        )
        .asked::<threads::get_threads::v1::Request, _>(
            at("get_matrixclientv1roomsroomidthreads").rated(Class::Costly),
            rooms::threads::threads,
        )
        .asked_for::<search::search_events::v3::Request, _, _>(
            at("post_matrixclientv3search").rated(Class::Costly),
            searching::search,
        )
}

fn following(table: Table) -> Table {
    use crate::{rooms::thread_subscription as subscription, thread_subscriptions};
    table
        .asked_for::<subscription::Get, _, _>(at(THREADING), subscription::get)
        .asked::<subscription::Put, _>(at(THREADING), subscription::put)
        .asked::<subscription::Delete, _>(at(THREADING), subscription::delete)
        .asked_for::<thread_subscriptions::List, _, _>(at(THREADING), thread_subscriptions::list)
}
