//! Walking through a space, page by page, depth first.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>

use std::{collections::HashSet, sync::Arc};

use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    events::space::child::HierarchySpaceChildEvent,
    room::{RoomSummary, RoomType},
    serde::Raw,
};

use super::{
    space::{Child, RemoteSpace},
    summary::Viewer,
};
use crate::{Engine, EngineError, Requester, Result};

/// How many rooms a page has, when the client does not say, and at most.
const PAGE_ROOMS: usize = 50;
/// How deep a walk goes. Nobody finds a room in the tenth space within a space.
const DEPTH_MAX: u64 = 20;
/// How many rooms one walk looks at, on all of its pages.
const WALK_ROOMS_MAX: usize = 10_000;
/// How many rooms other servers are asked about for one page, one after the other: a client waits.
const REMOTE_ROOMS_PER_PAGE: usize = 15;
/// The length of a token.
const TOKEN_CHARS: usize = 24;

/// What of a space is wanted.
#[derive(Clone, Debug)]
pub struct HierarchyQuery {
    /// The space.
    pub room_id: OwnedRoomId,
    /// From where to read on.
    pub from: Option<String>,
    /// How many rooms at most.
    pub limit: Option<u64>,
    /// How far below the space.
    pub max_depth: Option<u64>,
    /// Only rooms that are suggested.
    pub suggested_only: bool,
}

/// A page of a walk.
#[derive(Clone, Debug)]
pub struct HierarchyPage {
    /// The rooms.
    pub rooms: Vec<HierarchyRoom>,
    /// From where to read on; `None` at the end.
    pub next_batch: Option<String>,
}

/// A room of a walk.
#[derive(Clone, Debug)]
pub struct HierarchyRoom {
    /// What it is.
    pub summary: RoomSummary,
    /// The events that say which rooms are in it.
    pub children_state: Vec<Raw<HierarchySpaceChildEvent>>,
}

/// A walk that may be gone on with.
#[derive(Clone)]
pub(super) struct Walk {
    user_id: OwnedUserId,
    root: OwnedRoomId,
    suggested_only: bool,
    max_depth: u64,
    /// What comes next is last.
    stack: Vec<Stop>,
    seen: HashSet<OwnedRoomId>,
}

/// A room that is to be visited.
#[derive(Clone)]
struct Stop {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
    /// What the server that named it says of it.
    told: Option<Arc<RoomSummary>>,
}

/// What was found at a stop.
struct Visit {
    summary: RoomSummary,
    children: Vec<Child>,
    /// What a server said of the children.
    space: Option<Arc<RemoteSpace>>,
}

impl Engine {
    /// A page of the rooms in a space, the space itself first.
    pub async fn hierarchy(&self, requester: &Requester, query: HierarchyQuery) -> Result<HierarchyPage> {
        let limit = query.limit.map_or(PAGE_ROOMS, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limit = limit.clamp(1, PAGE_ROOMS);
        let mut walk = match &query.from {
            Some(token) => self.walk_to_go_on(requester, &query, token)?,
            None => self.new_walk(requester, &query).await?,
        };
        let mut rooms = Vec::new();
        let mut asked = 0;
        while rooms.len() < limit && asked < REMOTE_ROOMS_PER_PAGE {
            let Some(stop) = walk.stack.pop() else { break };
            if walk.seen.len() >= WALK_ROOMS_MAX || !walk.seen.insert(stop.room_id.clone()) {
                continue;
            }
            let Some(visit) = self.visit(&walk, &stop, &mut asked).await? else { continue };
            walk.descend(&stop, &visit);
            let children_state = visit.children.into_iter().map(|child| child.event).collect();
            rooms.push(HierarchyRoom { summary: visit.summary, children_state });
        }
        if query.from.is_none() && rooms.is_empty() {
            return Err(EngineError::forbidden("You may not see that room"));
        }
        let next_batch = (!walk.stack.is_empty()).then(|| self.put_aside(walk));
        Ok(HierarchyPage { rooms, next_batch })
    }

    async fn new_walk(&self, requester: &Requester, query: &HierarchyQuery) -> Result<Walk> {
        let via = self.servers_to_join_by(requester, &query.room_id, &[]).await?;
        let root = Stop { room_id: query.room_id.clone(), via, depth: 0, told: None };
        Ok(Walk {
            user_id: requester.user_id.clone(),
            root: query.room_id.clone(),
            suggested_only: query.suggested_only,
            max_depth: query.max_depth.unwrap_or(DEPTH_MAX).min(DEPTH_MAX),
            stack: vec![root],
            seen: HashSet::new(),
        })
    }

    fn walk_to_go_on(&self, requester: &Requester, query: &HierarchyQuery, token: &str) -> Result<Walk> {
        let walk = self.inner.rooms.walks.get(token).filter(|walk| {
            let depth = query.max_depth.unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
            walk.user_id == requester.user_id
                && walk.root == query.room_id
                && walk.suggested_only == query.suggested_only
                && walk.max_depth == depth
        });
        let walk = walk.ok_or_else(|| EngineError::invalid_param("`from` is not known, or of another request"))?;
        Ok(Walk::clone(&walk))
    }

    fn put_aside(&self, walk: Walk) -> String {
        let token = self.world().random_string(TOKEN_CHARS);
        self.inner.rooms.walks.insert(token.clone(), Arc::new(walk));
        token
    }

    /// What the user may see of a room.
    async fn visit(&self, walk: &Walk, stop: &Stop, asked: &mut usize) -> Result<Option<Visit>> {
        let user_id = &walk.user_id;
        if let Some(room) = self.resident_room(&stop.room_id).await? {
            if !self.may_preview(&room, Viewer::User(user_id)).await? {
                return Ok(None);
            }
            let summary = RoomSummary::clone(&*self.summary_of(&room).await?);
            let children = self.children_of(&room, walk.suggested_only).await?;
            return Ok(Some(Visit { summary, children, space: None }));
        }
        let visit = self.visit_elsewhere(&stop.room_id, stop, walk.suggested_only, asked).await?;
        let Some(visit) = visit else { return Ok(None) };
        Ok(self.may_preview_remote(&visit.summary, user_id).await?.then_some(visit))
    }

    async fn visit_elsewhere(
        &self,
        room_id: &RoomId,
        stop: &Stop,
        suggested_only: bool,
        asked: &mut usize,
    ) -> Result<Option<Visit>> {
        let told = stop.told.as_deref().cloned().map(|summary| Visit { summary, children: Vec::new(), space: None });
        if told.as_ref().is_some_and(|visit| visit.summary.room_type != Some(RoomType::Space)) {
            return Ok(told);
        }
        *asked += 1;
        let Some(space) = self.remote_space(room_id, &stop.via, suggested_only).await? else { return Ok(told) };
        let (summary, children) = (space.summary.clone(), space.children.clone());
        Ok(Some(Visit { summary, children, space: Some(space) }))
    }
}

impl Walk {
    /// Puts the children of a room on top of what is to be visited.
    fn descend(&mut self, stop: &Stop, visit: &Visit) {
        if stop.depth >= self.max_depth {
            return;
        }
        for child in visit.children.iter().rev() {
            if self.seen.contains(&child.room_id) || self.stack.len() >= WALK_ROOMS_MAX {
                continue;
            }
            let told = visit.space.as_ref().and_then(|space| space.summaries.get(&child.room_id).cloned());
            let is_accessible = visit.space.as_ref().is_none_or(|space| !space.inaccessible.contains(&child.room_id));
            // Where nobody else would tell us of a room, we show it only if we are in it ourselves.
            let via = if is_accessible { child.via.clone() } else { Vec::new() };
            let (room_id, depth) = (child.room_id.clone(), stop.depth + 1);
            self.stack.push(Stop { room_id, via, depth, told });
        }
    }
}
