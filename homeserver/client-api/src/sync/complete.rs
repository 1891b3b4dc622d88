//! The answer to `/sync` with the lists of each room in it, empty ones too.
//!
//! The specification calls these fields optional, and ruma leaves out what is empty. Clients in use disagree: matrix-nio
//! refuses a left room without `state.events`, for other servers have always sent it.

use std::collections::BTreeMap;

use http::{HeaderValue, header::CONTENT_TYPE};
use ruma::{
    OwnedEventId, OwnedRoomId,
    api::{
        BytesBody, OutgoingResponse,
        client::sync::sync_events::{
            DeviceLists, UnreadNotificationsCount,
            v3::{
                GlobalAccountData, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Presence, Response, RoomSummary,
                State, Timeline, ToDevice,
            },
        },
        error::IntoHttpError,
    },
    events::AnySyncTimelineEvent,
    serde::Raw,
};
use serde::Serialize;

/// An answer to `/sync` that leaves out no list of a room.
pub(crate) struct Complete {
    pub(crate) response: Response,
    /// What is sticky in joined rooms, under the name that its proposal gives it (MSC4354).
    pub(crate) sticky: BTreeMap<OwnedRoomId, Vec<Raw<AnySyncTimelineEvent>>>,
    /// Whether `state_after` goes by the name that it had in its proposal (MSC4222).
    pub(crate) uses_proposed_names: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    next_batch: &'a str,
    rooms: Rooms<'a>,
    account_data: &'a GlobalAccountData,
    presence: &'a Presence,
    to_device: &'a ToDevice,
    device_lists: &'a DeviceLists,
    device_one_time_keys_count: &'a BTreeMap<ruma::OneTimeKeyAlgorithm, ruma::UInt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_unused_fallback_key_types: Option<&'a [ruma::OneTimeKeyAlgorithm]>,
}

/// A kind of room of which there is nothing to tell is left out, as by other servers.
#[derive(Serialize)]
struct Rooms<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    join: BTreeMap<&'a OwnedRoomId, Joined<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    invite: BTreeMap<&'a OwnedRoomId, Invited<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    knock: BTreeMap<&'a OwnedRoomId, Knocked<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    leave: BTreeMap<&'a OwnedRoomId, Left<'a>>,
}

#[derive(Serialize)]
struct Joined<'a> {
    summary: &'a RoomSummary,
    unread_notifications: &'a UnreadNotificationsCount,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unread_thread_notifications: &'a BTreeMap<OwnedEventId, UnreadNotificationsCount>,
    timeline: Stretch<'a, AnySyncTimelineEvent>,
    #[serde(flatten)]
    state: WholeState<'a>,
    account_data: List<'a, ruma::events::AnyRoomAccountDataEvent>,
    ephemeral: List<'a, ruma::events::AnySyncEphemeralRoomEvent>,
    #[serde(rename = "msc4354_sticky", skip_serializing_if = "Option::is_none")]
    sticky: Option<List<'a, AnySyncTimelineEvent>>,
}

#[derive(Serialize)]
struct Left<'a> {
    timeline: Stretch<'a, AnySyncTimelineEvent>,
    #[serde(flatten)]
    state: WholeState<'a>,
    account_data: List<'a, ruma::events::AnyRoomAccountDataEvent>,
}

#[derive(Serialize)]
struct Invited<'a> {
    invite_state: List<'a, ruma::events::AnyStrippedStateEvent>,
}

#[derive(Serialize)]
struct Knocked<'a> {
    knock_state: List<'a, ruma::events::AnyStrippedStateEvent>,
}

#[derive(Serialize)]
#[serde(bound = "")]
struct Stretch<'a, T> {
    events: &'a [Raw<T>],
    limited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(bound = "")]
struct List<'a, T> {
    events: &'a [Raw<T>],
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum WholeState<'a> {
    State(List<'a, ruma::events::AnySyncStateEvent>),
    StateAfter(List<'a, ruma::events::AnySyncStateEvent>),
    #[serde(rename = "org.matrix.msc4222.state_after")]
    ProposedStateAfter(List<'a, ruma::events::AnySyncStateEvent>),
}

impl OutgoingResponse for Complete {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut answer = Answer::from(&self.response);
        if self.uses_proposed_names {
            let joined = answer.rooms.join.values_mut().map(|room| &mut room.state);
            let left = answer.rooms.leave.values_mut().map(|room| &mut room.state);
            joined.chain(left).for_each(WholeState::use_proposed_name);
        }
        for (room_id, events) in &self.sticky {
            if let Some(room) = answer.rooms.join.get_mut(room_id) {
                room.sticky = Some(List { events });
            }
        }
        let body = serde_json::to_vec(&answer)?;
        let mut response = http::Response::new(BytesBody(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl<'a> From<&'a Response> for Answer<'a> {
    fn from(response: &'a Response) -> Self {
        let rooms = &response.rooms;
        Self {
            next_batch: &response.next_batch,
            rooms: Rooms {
                join: rooms.join.iter().map(|(room_id, room)| (room_id, room.into())).collect(),
                invite: rooms.invite.iter().map(|(room_id, room)| (room_id, room.into())).collect(),
                knock: rooms.knock.iter().map(|(room_id, room)| (room_id, room.into())).collect(),
                leave: rooms.leave.iter().map(|(room_id, room)| (room_id, room.into())).collect(),
            },
            account_data: &response.account_data,
            presence: &response.presence,
            to_device: &response.to_device,
            device_lists: &response.device_lists,
            device_one_time_keys_count: &response.device_one_time_keys_count,
            device_unused_fallback_key_types: response.device_unused_fallback_key_types.as_deref(),
        }
    }
}

impl<'a> From<&'a JoinedRoom> for Joined<'a> {
    fn from(room: &'a JoinedRoom) -> Self {
        Self {
            summary: &room.summary,
            unread_notifications: &room.unread_notifications,
            unread_thread_notifications: &room.unread_thread_notifications,
            timeline: (&room.timeline).into(),
            state: (&room.state).into(),
            account_data: List { events: &room.account_data.events },
            ephemeral: List { events: &room.ephemeral.events },
            sticky: None,
        }
    }
}

impl<'a> From<&'a LeftRoom> for Left<'a> {
    fn from(room: &'a LeftRoom) -> Self {
        Self {
            timeline: (&room.timeline).into(),
            state: (&room.state).into(),
            account_data: List { events: &room.account_data.events },
        }
    }
}

impl<'a> From<&'a InvitedRoom> for Invited<'a> {
    fn from(room: &'a InvitedRoom) -> Self {
        Self { invite_state: List { events: &room.invite_state.events } }
    }
}

impl<'a> From<&'a KnockedRoom> for Knocked<'a> {
    fn from(room: &'a KnockedRoom) -> Self {
        Self { knock_state: List { events: &room.knock_state.events } }
    }
}

impl<'a> From<&'a Timeline> for Stretch<'a, AnySyncTimelineEvent> {
    fn from(timeline: &'a Timeline) -> Self {
        Self { events: &timeline.events, limited: timeline.limited, prev_batch: timeline.prev_batch.as_deref() }
    }
}

impl WholeState<'_> {
    fn use_proposed_name(&mut self) {
        if let Self::StateAfter(list) = self {
            *self = Self::ProposedStateAfter(List { events: list.events });
        }
    }
}

impl<'a> From<&'a State> for WholeState<'a> {
    fn from(state: &'a State) -> Self {
        match state {
            State::After(state) => Self::StateAfter(List { events: &state.events }),
            State::Before(state) => Self::State(List { events: &state.events }),
            _ => Self::State(List { events: &[] }),
        }
    }
}
