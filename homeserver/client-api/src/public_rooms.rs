//! `/_matrix/client/v3/publicRooms`

use engine::{PublicRoomsPage, PublicRoomsQuery, Requester};
use ruma::{
    UInt,
    api::client::directory::{
        get_public_rooms::v3 as get_public_rooms, get_public_rooms_filtered::v3 as get_public_rooms_filtered,
    },
    directory::PublicRoomsChunk,
    room::JoinRuleKind,
};
use serde::Serialize;

use crate::{Arguments, Door, Result, error::ApiError, json::Json};

/// A part of a directory.
#[derive(Serialize)]
pub(crate) struct Rooms {
    chunk: Vec<Listed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_room_count_estimate: Option<UInt>,
}

/// A room, with its join rule said even where it is the one that is meant when none is: the library leaves that out, and
/// not everybody knows the default.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    room: PublicRoomsChunk,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_rule: Option<JoinRuleKind>,
}

impl From<PublicRoomsChunk> for Listed {
    fn from(room: PublicRoomsChunk) -> Self {
        let join_rule = (room.join_rule == JoinRuleKind::Public).then_some(JoinRuleKind::Public);
        Self { room, join_rule }
    }
}

impl From<PublicRoomsPage> for Rooms {
    fn from(page: PublicRoomsPage) -> Self {
        Self {
            chunk: page.chunk.into_iter().map(Listed::from).collect(),
            next_batch: page.next_batch,
            prev_batch: page.prev_batch,
            total_room_count_estimate: page.total.map(UInt::new_saturating),
        }
    }
}

/// The specification lets anybody read the directory. Here that is for the operator to choose, and other servers'
/// directories are not fetched for nobody in particular.
pub(crate) async fn get(
    door: Door,
    asked: Arguments<get_public_rooms::Request, Option<Requester>>,
) -> Result<Json<Rooms>> {
    let request = asked.request;
    if asked.requester.is_none() {
        let is_ours = request.server.as_deref().is_none_or(|server| server == door.engine.server_name());
        if !door.inner.options.directory_for_everybody || !is_ours {
            return Err(ApiError::MissingToken("The room directory is for users of this server"));
        }
    }
    let query = PublicRoomsQuery {
        server: request.server,
        limit: request.limit.map(u64::from),
        since: request.since,
        ..PublicRoomsQuery::default()
    };
    Ok(Json(door.engine.public_rooms(query).await?.into()))
}

pub(crate) async fn post(door: Door, asked: Arguments<get_public_rooms_filtered::Request>) -> Result<Json<Rooms>> {
    let request = asked.request;
    let query = PublicRoomsQuery {
        server: request.server,
        limit: request.limit.map(u64::from),
        since: request.since,
        search_term: request.filter.generic_search_term,
        room_types: request.filter.room_types,
        network: request.room_network,
    };
    Ok(Json(door.engine.public_rooms(query).await?.into()))
}
