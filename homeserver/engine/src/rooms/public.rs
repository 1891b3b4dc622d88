//! The directory of public rooms: ours, and those of other servers.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#listing-rooms>

use std::{collections::BTreeMap, sync::Arc};

use outbound::PublicRoomsAsked;
use ruma::{
    OwnedServerName, ServerName,
    directory::{PublicRoomsChunk, RoomNetwork, RoomTypeFilter},
    room::RoomSummary,
};

use super::remote::map_call_error;
use crate::{Engine, EngineError, Result};

/// How many rooms a page has, when the asker does not say, and at most.
const PAGE_ROOMS: usize = 100;
const PAGE_ROOMS_MAX: usize = 500;
/// How many rooms the directory shows: those with the most members.
const LISTED_ROOMS_MAX: usize = 10_000;
/// The longest text that is searched for, in characters.
const SEARCH_TERM_CHARS_MAX: usize = 200;

/// Which part of a directory is wanted.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsQuery {
    /// Whose directory, if not ours.
    pub server: Option<OwnedServerName>,
    /// How many rooms at most; 0 for as many as a page holds.
    pub limit: Option<u64>,
    /// From where to read on.
    pub since: Option<String>,
    /// A text that name, topic or alias contains.
    pub search_term: Option<String>,
    /// Only rooms of these types; empty for all.
    pub room_types: Vec<RoomTypeFilter>,
    /// Rooms of which network.
    pub network: RoomNetwork,
}

impl PublicRoomsQuery {
    fn page_limit(&self) -> usize {
        match self.limit {
            None => PAGE_ROOMS,
            Some(0) => PAGE_ROOMS_MAX,
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX).min(PAGE_ROOMS_MAX),
        }
    }
}

/// A part of a directory.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsPage {
    /// The rooms, those with most members first.
    pub chunk: Vec<PublicRoomsChunk>,
    /// From where to read on.
    pub next_batch: Option<String>,
    /// From where to read back.
    pub prev_batch: Option<String>,
    /// How many rooms there are, by guess for other servers' directories.
    pub total: Option<u64>,
}

impl Engine {
    /// A part of our directory, or of that of another server.
    pub async fn public_rooms(&self, query: PublicRoomsQuery) -> Result<PublicRoomsPage> {
        match query.server.clone().filter(|server| server != self.server_name()) {
            Some(server) => self.public_rooms_of(&server, query).await,
            None => self.local_public_rooms(&query).await,
        }
    }

    /// A part of our directory for another server, if the operator lets others see it.
    pub async fn federation_public_rooms(&self, query: PublicRoomsQuery) -> Result<PublicRoomsPage> {
        if !self.settings().lists_rooms_to_servers {
            return Err(EngineError::forbidden("This server does not show its room directory to other servers"));
        }
        self.local_public_rooms(&query).await
    }

    async fn local_public_rooms(&self, query: &PublicRoomsQuery) -> Result<PublicRoomsPage> {
        let start = match &query.since {
            Some(token) => token.parse().map_err(|_| EngineError::invalid_param("`since` is not one of our tokens"))?,
            None => 0_usize,
        };
        let limit = query.page_limit();
        let wanted = Wanted::new(query);
        let mut rooms = self.listed_rooms(&query.network).await?;
        rooms.retain(|room| wanted.fits(room));
        let chunk = rooms.iter().skip(start).take(limit).map(|room| PublicRoomsChunk::from(RoomSummary::clone(room)));
        let end = start.saturating_add(limit);
        Ok(PublicRoomsPage {
            chunk: chunk.collect(),
            next_batch: (end < rooms.len()).then(|| end.to_string()),
            prev_batch: (start > 0).then(|| start.saturating_sub(limit).to_string()),
            total: Some(rooms.len() as u64),
        })
    }

    /// All rooms in our directory for a network that we are in, those with the most members first. Application services
    /// list rooms of other networks.
    async fn listed_rooms(&self, network: &RoomNetwork) -> Result<Vec<Arc<RoomSummary>>> {
        let mut listed = BTreeMap::new();
        if !matches!(network, RoomNetwork::ThirdParty(_)) {
            let published = self.storage().published_rooms(LISTED_ROOMS_MAX).await?;
            listed.extend(published);
        }
        let of_network = match network {
            RoomNetwork::ThirdParty(id) => self.rooms_of_network(Some(id)).await?,
            RoomNetwork::All => self.rooms_of_network(None).await?,
            _ => Vec::new(),
        };
        listed.extend(of_network);
        let mut rooms = Vec::new();
        for (room_id, revision) in listed {
            if let Some(summary) = self.inner.rooms.summary(&room_id, revision) {
                rooms.push(summary);
            } else if let Some(room) = self.resident_room(&room_id).await? {
                rooms.push(self.summary_of(&room).await?);
            }
        }
        rooms.retain(|room| room.num_joined_members > ruma::UInt::MIN);
        rooms.sort_by(|a, b| (b.num_joined_members, &a.room_id).cmp(&(a.num_joined_members, &b.room_id)));
        Ok(rooms)
    }

    async fn public_rooms_of(&self, server: &ServerName, query: PublicRoomsQuery) -> Result<PublicRoomsPage> {
        let limit = query.page_limit() as u64;
        let (include_all_networks, third_party_instance_id) = match query.network {
            RoomNetwork::All => (true, None),
            RoomNetwork::ThirdParty(id) => (false, Some(id)),
            _ => (false, None),
        };
        let room_types = query.room_types.iter().map(|room_type| room_type.as_str().map(ToOwned::to_owned));
        let asked = PublicRoomsAsked {
            limit,
            since: query.since,
            search_term: query.search_term,
            room_types: room_types.collect(),
            include_all_networks,
            third_party_instance_id,
        };
        let answer = self.federation().public_rooms(server, asked).await;
        let answer = answer.map_err(|error| map_call_error(server, &error))?;
        let rooms = answer.chunk.iter().take(PAGE_ROOMS_MAX);
        Ok(PublicRoomsPage {
            chunk: rooms.filter_map(|room| serde_json::from_str(room.get()).ok()).collect(),
            next_batch: answer.next_batch,
            prev_batch: answer.prev_batch,
            total: answer.total_room_count_estimate,
        })
    }
}

/// What a room must be to be shown.
struct Wanted<'a> {
    term: Option<String>,
    room_types: &'a [RoomTypeFilter],
}

impl<'a> Wanted<'a> {
    fn new(query: &'a PublicRoomsQuery) -> Self {
        let term = query.search_term.as_deref().map(|term| {
            let term: String = term.trim().chars().take(SEARCH_TERM_CHARS_MAX).collect();
            term.to_lowercase()
        });
        Self { term: term.filter(|term| !term.is_empty()), room_types: &query.room_types }
    }

    fn fits(&self, room: &RoomSummary) -> bool {
        let room_type = RoomTypeFilter::from(room.room_type.clone());
        if !self.room_types.is_empty() && !self.room_types.contains(&room_type) {
            return false;
        }
        let Some(term) = &self.term else { return true };
        let alias = room.canonical_alias.as_ref().map(|alias| alias.as_str());
        let texts = [room.name.as_deref(), room.topic.as_deref(), alias];
        texts.into_iter().flatten().any(|text| text.to_lowercase().contains(term))
    }
}
