//! Creating rooms.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::sync::Arc;

use rules::{
    Change, Pdu, RoomSnapshot,
    room::{
        EventsById,
        create::{CreateError, NewRoom, Preset, first_events},
        send::{self, Circumstances, Intent},
    },
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId,
    RoomVersionId, UInt, events::TimelineEventType, room_version_rules::RoomVersionRules,
};
use serde_json::value::RawValue;
use storage::CommitError;

use super::{Decision, moderate::Manner, send::object};
use crate::{AskingService, Engine, EngineError, Requester, Result};

/// The longest room id localpart that we make, in characters: 18 of 62 letters are 107 bits.
const ROOM_ID_LENGTH: usize = 18;
/// How many rooms a user may make alike in the same millisecond.
const MAX_ALIKE: u64 = 20;

/// What a client wants of a new room.
#[derive(Clone, Debug)]
pub struct CreateRoomCommand {
    /// The version, if not the default.
    pub version: Option<RoomVersionId>,
    /// The initial settings; if not given, they follow from `published`.
    pub preset: Option<Preset>,
    /// Whether the room is listed in the public directory.
    pub published: bool,
    /// The localpart of an alias.
    pub alias_localpart: Option<String>,
    /// The application service that asks, which may use its own aliases.
    pub service: Option<AskingService>,
    /// The name.
    pub name: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
    /// Further state.
    pub initial_state: Vec<InitialState>,
    /// Further keys for the content of the create event.
    pub creation_content: CanonicalJsonObject,
    /// Keys that replace those of the power levels.
    pub power_level_content_override: Option<CanonicalJsonObject>,
    /// Whether the invitations say that this is a direct chat.
    pub is_direct: bool,
}

/// One state event for a new room.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// The event type.
    pub event_type: TimelineEventType,
    /// The state key.
    pub state_key: String,
    /// The content.
    pub content: Box<RawValue>,
}

impl Engine {
    /// Creates a room: all of its first events in one commit, then the invitations one by one.
    pub async fn create_room(&self, requester: &Requester, command: CreateRoomCommand) -> Result<OwnedRoomId> {
        let version = command.version.clone().unwrap_or_else(|| self.settings().default_room_version.clone());
        let rules = version.rules().ok_or_else(|| EngineError::UnsupportedRoomVersion(version.clone()))?;
        let alias = command.alias_localpart.as_deref().map(|localpart| self.local_alias(localpart)).transpose()?;
        if let Some(alias) = &alias {
            self.refuse_alias_of_another(requester, command.service.as_ref(), alias)?;
        }
        let new_room = self.new_room(requester, &command, version, alias.clone()).await?;
        let intents = first_events(&new_room, &rules)?;
        let decision = self.decide_new(&new_room, &intents, &rules).await?;
        let room_id = decision.room.room_id.clone();
        self.commit_new_room(requester, decision, alias.as_deref()).await?;
        if command.published {
            self.storage().set_room_published(&room_id, true).await?;
        }
        for user_id in &command.invite {
            if let Err(error) = self.invite_as(requester, &room_id, user_id, Manner::default(), command.is_direct).await
            {
                tracing::warn!(room.id = %room_id, user.id = %user_id, %error, "invitation into a new room failed");
            }
        }
        Ok(room_id)
    }

    async fn new_room(
        &self,
        requester: &Requester,
        command: &CreateRoomCommand,
        version: RoomVersionId,
        alias: Option<OwnedRoomAliasId>,
    ) -> Result<NewRoom> {
        let initial_state = command
            .initial_state
            .iter()
            .map(|state| Ok((state.event_type.clone(), state.state_key.clone(), object(&state.content)?)));
        let default_preset = if command.published { Preset::PublicChat } else { Preset::PrivateChat };
        Ok(NewRoom {
            version,
            creator: requester.user_id.clone(),
            preset: command.preset.unwrap_or(default_preset),
            alias,
            name: command.name.clone(),
            topic: command.topic.clone(),
            initial_state: initial_state.collect::<Result<_>>()?,
            creation_content: command.creation_content.clone(),
            power_level_content_override: command.power_level_content_override.clone(),
            invite: command.invite.clone(),
            member_content: self.member_content(&requester.user_id, None).await?,
        })
    }

    /// Decides on a room that does not exist yet. From version 12 on, rooms that the same user makes alike in the same
    /// millisecond would be the same room: then it is made a millisecond later.
    pub(super) async fn decide_new(
        &self,
        new_room: &NewRoom,
        intents: &[Intent],
        rules: &RoomVersionRules,
    ) -> Result<Decision> {
        let now_ms = self.world().clock.now_ms();
        for later_ms in 0..MAX_ALIKE {
            let now = MilliSecondsSinceUnixEpoch(UInt::new_saturating(now_ms + later_ms));
            let decision = self.decide_create(new_room, intents.to_vec(), rules.clone(), now)?;
            if self.storage().room(&decision.room.room_id).await?.is_none() {
                return Ok(decision);
            }
        }
        Err(EngineError::Busy)
    }

    fn decide_create(
        &self,
        new_room: &NewRoom,
        intents: Vec<Intent>,
        rules: RoomVersionRules,
        now: MilliSecondsSinceUnixEpoch,
    ) -> Result<Decision> {
        let localpart = self.world().random_string(ROOM_ID_LENGTH);
        let room_id = RoomId::parse(format!("!{localpart}:{}", self.server_name())).map_err(EngineError::internal)?;
        let mut room =
            RoomSnapshot::empty(room_id, new_room.version.clone(), rules).at_home_on(self.server_name().to_owned());
        let mut events = EventsById::new();
        let mut changes = Vec::new();
        for intent in intents {
            let pdu = self.make_first_event(&room, intent, now, &events)?;
            if pdu.event_type == TimelineEventType::RoomCreate {
                // From version 12 on, the room's id is the create event's.
                room.room_id.clone_from(&pdu.room_id);
                let (room_id, version) = (room.room_id.clone(), room.version.clone());
                changes.push(Change::Room { room_id, version });
            }
            let step = send::accept(&room, &pdu, &events);
            changes.extend(step.changes);
            room = step.room.ok_or_else(|| EngineError::internal("an accepted event leads to no room"))?;
            events.insert(pdu.event_id.clone(), pdu);
        }
        Ok(Decision { changes, room })
    }

    fn make_first_event(
        &self,
        room: &RoomSnapshot,
        intent: Intent,
        now: MilliSecondsSinceUnixEpoch,
        events: &EventsById,
    ) -> Result<Arc<Pdu>> {
        let circumstances =
            Circumstances { key: self.federation().key(), now, id_seed: self.world().random_string(18), events };
        send::make(room, intent, &circumstances).map_err(|error| match EngineError::from(error) {
            // What the creator may not do in their own room, they asked for wrongly.
            EngineError::Forbidden(reason) => EngineError::BadState(reason),
            error => error,
        })
    }

    pub(super) async fn commit_new_room(
        &self,
        requester: &Requester,
        decision: Decision,
        alias: Option<&RoomAliasId>,
    ) -> Result<()> {
        let room_id = decision.room.room_id.clone();
        if let Some(alias) = alias
            && !self.storage().create_alias(alias, &room_id, &requester.user_id).await?
        {
            return Err(EngineError::RoomInUse);
        }
        let before = RoomSnapshot::empty(room_id, decision.room.version.clone(), decision.room.rules.clone());
        let committed = self.commit_decision(&before, decision).await;
        if let (Err(_), Some(alias)) = (&committed, alias) {
            self.storage().delete_alias(alias).await?;
        }
        match committed {
            Ok(_) => Ok(()),
            Err(CommitError::Storage(error)) => Err(error.into()),
            Err(error) => Err(EngineError::internal(error)),
        }
    }
}

impl From<CreateError> for EngineError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Json(_) | CreateError::AdditionalCreators => Self::BadJson(error.to_string()),
            CreateError::CreatorInPowerLevels(_) | CreateError::TooMany(..) => Self::InvalidParam(error.to_string()),
        }
    }
}
