//! What changes a room, and who is in it.

use ruma::api::client::{knock, membership, message, read_marker, receipt, redact, room, state, typing};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// An empty state key may be left out, with its slash or without.
const STATE_WITHOUT_KEY: &[&str] = &[
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
];

/// The chapter of what the specification does not have, but extends.
const SENDING: &str = "sending-events-to-a-room";

pub(super) fn rows(table: Table) -> Table {
    delayed(changing(memberships(table)))
}

fn memberships(table: Table) -> Table {
    use crate::{create_room, join, joined_rooms, knock as knocking, rooms};
    table
        .asked::<room::create_room::v3::Request, _>(
            at("post_matrixclientv3createroom").rated(Class::CreateRoom),
            create_room::create_room,
        )
        .asked::<membership::join_room_by_id_or_alias::v3::Request, _>(
            at("post_matrixclientv3joinroomidoralias").rated(Class::Membership),
            join::join,
        )
        .asked::<knock::knock_room::v3::Request, _>(
            at("post_matrixclientv3knockroomidoralias").rated(Class::Membership),
            knocking::knock,
        )
        .asked::<membership::join_room_by_id::v3::Request, _>(
            at("post_matrixclientv3roomsroomidjoin").rated(Class::Membership),
            rooms::join::join,
        )
        .asked::<membership::invite_user::v3::Request, _>(
            at("post_matrixclientv3roomsroomidinvite").rated(Class::Membership),
            rooms::invite::invite,
        )
        .asked::<membership::leave_room::v3::Request, _>(at("post_matrixclientv3roomsroomidleave"), rooms::leave::leave)
        .asked::<membership::kick_user::v3::Request, _>(at("post_matrixclientv3roomsroomidkick"), rooms::kick::kick)
        .asked::<membership::ban_user::v3::Request, _>(at("post_matrixclientv3roomsroomidban"), rooms::ban::ban)
        .asked::<membership::unban_user::v3::Request, _>(at("post_matrixclientv3roomsroomidunban"), rooms::unban::unban)
        .asked::<room::upgrade_room::v3::Request, _>(
            at("post_matrixclientv3roomsroomidupgrade").rated(Class::CreateRoom),
            rooms::upgrade::upgrade,
        )
        .asked::<membership::forget_room::v3::Request, _>(
            at("post_matrixclientv3roomsroomidforget"),
            rooms::forget::forget,
        )
        .asked::<membership::joined_rooms::v3::Request, _>(
            at("get_matrixclientv3joined_rooms"),
            joined_rooms::joined_rooms,
        )
}

fn changing(table: Table) -> Table {
    use crate::rooms;
    table
        .asked_for::<message::send_message_event::v3::Request, _, _>(
            at("put_matrixclientv3roomsroomidsendeventtypetxnid").rated(Class::Message),
            rooms::send::send,
        )
        .asked_for::<state::send_state_event::v3::Request, _, _>(
            at("put_matrixclientv3roomsroomidstateeventtypestatekey").rated(Class::Message).also_at(STATE_WITHOUT_KEY),
            rooms::state::put,
        )
        .asked::<redact::redact_event::v3::Request, _>(
            at("put_matrixclientv3roomsroomidredacteventidtxnid").rated(Class::Message),
            rooms::redact::redact,
        )
        .asked::<typing::create_typing_event::v3::Request, _>(
            at("put_matrixclientv3roomsroomidtypinguserid").mended(rooms::typing::with_timeout),
            rooms::typing::typing,
        )
        .asked::<receipt::create_receipt::v3::Request, _>(
            at("post_matrixclientv3roomsroomidreceiptreceipttypeeventid"),
            rooms::receipt::receipt,
        )
        .asked::<read_marker::set_read_marker::v3::Request, _>(
            at("post_matrixclientv3roomsroomidread_markers"),
            rooms::read_markers::read_markers,
        )
}

fn delayed(table: Table) -> Table {
    use crate::delayed_events as waiting;
    table
        .asked_for::<waiting::List, _, _>(at(SENDING), waiting::list)
        .asked_for::<waiting::One, _, _>(at(SENDING), waiting::one)
        .asked_for::<waiting::Send, _, _>(at(SENDING).rated(Class::Message), waiting::send)
        .open::<waiting::Update, _>(at(SENDING), waiting::update)
        .open::<waiting::UpdateByBody, _>(at(SENDING), waiting::update_by_body)
}
