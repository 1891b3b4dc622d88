//! Joining and leaving by way of a server that is in the room.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#joining-rooms>

use std::sync::Arc;

use outbound::CallError;
use rules::{
    Pdu,
    event::build,
    room::template::{self, Wanted},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    events::room::member::MembershipState, room_version_rules::RoomVersionRules,
};
use storage::{CommitError, MembershipRecord};

use super::moderate::Manner;
use crate::{Engine, EngineError, Result};

/// The room versions that this server can take part in: all of the specification. See `docs/decisions/` for the first.
pub const ROOM_VERSIONS: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// How a user gets into a room by way of another server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WayIn {
    /// At once.
    Join,
    /// By asking to be let in.
    Knock,
}

impl Engine {
    /// Joins or knocks by the first of the servers that does it. Of several reasons why not, the most telling is told.
    pub(crate) async fn enter_by_servers(
        &self,
        way: WayIn,
        user_id: &UserId,
        room_id: &RoomId,
        servers: &[OwnedServerName],
        content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<()> {
        let mut last = EngineError::CannotFederate("No server in the room could be reached".to_owned());
        for server in servers {
            let done = match way {
                WayIn::Join => self.join_by(server, user_id, room_id, content.clone(), origin_server_ts).await,
                WayIn::Knock => self.knock_by(server, user_id, room_id, content.clone(), origin_server_ts).await,
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(destination = %server, room.id = %room_id, ?way, %error, "another server did not let our user in");
                    last = more_telling(last, error);
                }
            }
        }
        Err(last)
    }

    async fn join_by(
        &self,
        server: &ServerName,
        user_id: &UserId,
        room_id: &RoomId,
        content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Result<()> {
        let offer = self.federation().make_join(server, room_id, user_id, &ROOM_VERSIONS).await;
        let offer = offer.map_err(|error| map_call_error(server, &error))?;
        let wanted = self.wanted(server, room_id, user_id, MembershipState::Join, content, origin_server_ts);
        let (pdu, rules) = self.build_by_template(wanted, &offer.event, &offer.room_version)?;
        let omits = self.may_enter_without_members(room_id).await?;
        let answer = self.federation().send_join(server, &pdu, omits).await;
        let answer = answer.map_err(|error| map_call_error(server, &error))?;
        if answer.members_omitted && !omits {
            tracing::warn!(destination = %server, room.id = %room_id, "members were left out that were asked for");
            return Err(EngineError::CannotFederate(format!("{server} gave only part of the state of the room")));
        }
        // Nearly everything can happen in there, and compilers have a limit on how deep futures lie in one another.
        Box::pin(self.enter_room(server, &pdu, offer.room_version, rules, answer)).await?;
        self.wait_if_small(room_id).await
    }

    /// Has a server of the room make known that our user turns an invitation down. Returns the leave event.
    pub(crate) async fn leave_by_servers(
        &self,
        record: &MembershipRecord,
        servers: &[OwnedServerName],
        manner: &Manner,
    ) -> Result<Arc<Pdu>> {
        let mut last = EngineError::CannotFederate("No server in the room could be reached".to_owned());
        for server in servers {
            match self.leave_by(server, record, manner).await {
                Ok(pdu) => return Ok(pdu),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn leave_by(&self, server: &ServerName, record: &MembershipRecord, manner: &Manner) -> Result<Arc<Pdu>> {
        let (room_id, user_id) = (&record.room_id, &record.user_id);
        let offer = self.federation().make_leave(server, room_id, user_id).await;
        let offer = offer.map_err(|error| map_call_error(server, &error))?;
        let content = rules::room::member::content(None, None, manner.reason(), None);
        let wanted = self.wanted(server, room_id, user_id, MembershipState::Leave, content, manner.origin_server_ts);
        let (pdu, _) = self.build_by_template(wanted, &offer.event, &offer.room_version)?;
        self.federation().send_leave(server, &pdu).await.map_err(|error| map_call_error(server, &error))?;
        Ok(pdu)
    }

    pub(crate) fn wanted<'a>(
        &self,
        asked: &'a ServerName,
        room_id: &'a RoomId,
        user_id: &'a UserId,
        membership: MembershipState,
        content: CanonicalJsonObject,
        origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    ) -> Wanted<'a> {
        let now = origin_server_ts.unwrap_or_else(|| self.world().clock.now());
        let id_seed = self.world().random_string(18);
        Wanted { room_id, user_id, membership, content, asked, now, id_seed }
    }

    pub(crate) fn build_by_template(
        &self,
        wanted: Wanted<'_>,
        event: &CanonicalJsonObject,
        version: &RoomVersionId,
    ) -> Result<(Arc<Pdu>, RoomVersionRules)> {
        let rules = version.rules().filter(|_| ROOM_VERSIONS.contains(version));
        let rules = rules.ok_or_else(|| EngineError::IncompatibleRoomVersion(version.clone()))?;
        let draft =
            template::draft(wanted, event, &rules).map_err(|error| EngineError::CannotFederate(error.to_string()))?;
        let pdu = build(draft, &rules, self.federation().key())?;
        Ok((Arc::new(pdu), rules))
    }
}

/// Which of two servers' reasons says more about the room, and less about the server.
fn more_telling(one: EngineError, other: EngineError) -> EngineError {
    let weight = |error: &EngineError| match error {
        EngineError::Forbidden(_) => 3,
        EngineError::UnableToAuthoriseJoin
        | EngineError::UnableToGrantJoin
        | EngineError::IncompatibleRoomVersion(_) => 2,
        EngineError::NotFound(_) => 1,
        _ => 0,
    };
    if weight(&one) > weight(&other) { one } else { other }
}

/// What a client is told when another server did not do what was asked: never that server's own words or status.
pub(crate) fn map_call_error(server: &ServerName, error: &CallError) -> EngineError {
    match error {
        CallError::Refused { errcode, .. } if errcode.as_deref() == Some("M_INVITE_BLOCKED") => {
            EngineError::InviteBlocked
        }
        CallError::Refused { status: 403, .. } => EngineError::forbidden(format!("{server} does not allow it")),
        CallError::Refused { status: 404, .. } => EngineError::not_found(format!("{server} knows no such thing")),
        CallError::Refused { errcode, .. } if errcode.as_deref() == Some("M_UNABLE_TO_AUTHORISE_JOIN") => {
            EngineError::UnableToAuthoriseJoin
        }
        CallError::Refused { errcode, .. } if errcode.as_deref() == Some("M_UNABLE_TO_GRANT_JOIN") => {
            EngineError::UnableToGrantJoin
        }
        CallError::Refused { errcode, room_version: Some(version), .. }
            if errcode.as_deref() == Some("M_INCOMPATIBLE_ROOM_VERSION") =>
        {
            EngineError::IncompatibleRoomVersion(version.clone())
        }
        CallError::Denied(_) => EngineError::CannotFederate(format!("{server} is at an address that is not allowed")),
        _ => EngineError::CannotFederate(format!("{server} could not be reached or gave no useful answer")),
    }
}

/// A commit that no decision depended on went wrong.
pub(crate) fn commit_error(error: CommitError) -> EngineError {
    match error {
        CommitError::Storage(error) => error.into(),
        error => EngineError::internal(error),
    }
}
