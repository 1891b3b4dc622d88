//! Users create rooms, come, go, and make others go.

use engine::{CreateRoomCommand, EngineError, InitialState};
use rules::room::create::Preset;
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedUserId, RoomVersionId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{json, value::to_raw_value};

use super::{Kind, ROOMS_MAX};
use crate::{Failure, universe::Universe};

const VERSIONS: [RoomVersionId; 7] = [
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// The settings of history visibility.
pub(super) const VISIBILITIES: [&str; 4] = ["joined", "invited", "shared", "world_readable"];

impl Universe {
    /// A user creates a room, unless there are enough.
    pub(super) async fn create_room(&mut self) -> Result<(), Failure> {
        if self.rooms.len() == ROOMS_MAX {
            return Ok(());
        }
        let user = self.dice.below(self.users.len());
        let command = self.new_room();
        let who = self.user_id(user).to_string();
        let what = format!("{:?} version {:?}, invites {:?}", command.preset, command.version, command.invite);
        let created = self.engine_of(user).create_room(self.requester(user), command).await;
        if let Ok(room_id) = &created {
            self.rooms.push(room_id.clone());
        }
        let number = self.rooms.len();
        self.note(Kind::CreateRoom, &who, &what, created.map(|room_id| format!("room {number} is {room_id}")))
    }

    pub(super) fn new_room(&mut self) -> CreateRoomCommand {
        let preset =
            self.dice.weighted(&[(Preset::PublicChat, 6), (Preset::PrivateChat, 2), (Preset::TrustedPrivateChat, 2)]);
        let version = if self.dice.percent(50) { None } else { Some(self.dice.pick(&VERSIONS).clone()) };
        let mut initial_state = Vec::new();
        if self.dice.percent(40) {
            let content = json!({ "history_visibility": self.dice.pick(&VISIBILITIES) });
            initial_state.push(InitialState {
                event_type: TimelineEventType::RoomHistoryVisibility,
                state_key: String::new(),
                content: to_raw_value(&content).expect("a JSON object is JSON"),
            });
        }
        let invite = (0..self.dice.below(3)).map(|_| self.anybody()).collect();
        CreateRoomCommand {
            version,
            preset: Some(preset),
            published: false,
            alias_localpart: None,
            service: None,
            name: self.dice.percent(30).then(|| "Plans".to_owned()),
            topic: None,
            invite,
            initial_state,
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: None,
            is_direct: false,
        }
    }

    fn anybody(&mut self) -> OwnedUserId {
        let user = self.dice.below(self.users.len());
        self.user_id(user).to_owned()
    }

    pub(super) async fn change_membership(&mut self, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::Join => self.join().await,
            Kind::Leave => self.leave().await,
            _ => self.change_another(kind).await,
        }
    }

    /// A user who is not in a room comes in.
    async fn join(&mut self) -> Result<(), Failure> {
        let room = self.any_room();
        let mut user = self.dice.below(self.users.len());
        for _ in 0..super::TRIES {
            let record = self.engine_of(user).storage().membership(self.user_id(user), &self.rooms[room]).await?;
            if record.is_none_or(|record| record.membership != MembershipState::Join) {
                break;
            }
            user = self.dice.below(self.users.len());
        }
        let via: Vec<OwnedServerName> = (0..2).map(|_| self.dice.pick(&self.servers).name().to_owned()).collect();
        let who = self.user_id(user).to_string();
        let what = format!("room {} via {via:?}", room + 1);
        let joined = self.engine_of(user).join(self.requester(user), &self.rooms[room], &via, None).await;
        self.note(Kind::Join, &who, &what, joined.map(|()| "in".to_owned()))
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let (room, user) = self.room_and_user().await?;
        let who = self.user_id(user).to_string();
        let left = self.engine_of(user).leave(self.requester(user), &self.rooms[room], None).await;
        self.note(Kind::Leave, &who, &format!("room {}", room + 1), left.map(|()| "out".to_owned()))
    }

    /// A user invites, kicks, bans or unbans another.
    async fn change_another(&mut self, kind: Kind) -> Result<(), Failure> {
        let (room, user) = self.room_and_user().await?;
        let target = self.target(kind, room, user).await?;
        let who = self.user_id(user).to_string();
        let what = format!("{target} room {}", room + 1);
        let done = self.act(kind, room, user, &target).await;
        self.note(kind, &who, &what, done.map(|()| "done".to_owned()))
    }

    async fn act(&self, kind: Kind, room: usize, user: usize, target: &UserId) -> Result<(), EngineError> {
        let (engine, requester, room_id) = (self.engine_of(user), self.requester(user), &self.rooms[room]);
        match kind {
            Kind::Invite => engine.invite(requester, room_id, target, None).await,
            Kind::Kick => engine.kick(requester, room_id, target, None).await,
            Kind::Ban => engine.ban(requester, room_id, target, None).await,
            _ => engine.unban(requester, room_id, target, None).await,
        }
    }

    /// Somebody whom the action makes sense for, if there is one.
    async fn target(&mut self, kind: Kind, room: usize, user: usize) -> Result<OwnedUserId, Failure> {
        let fitting: &[MembershipState] = match kind {
            Kind::Unban => &[MembershipState::Ban],
            Kind::Kick | Kind::Ban => &[MembershipState::Join, MembershipState::Invite],
            _ => &[],
        };
        if !fitting.is_empty() && self.dice.percent(90) {
            let mut members = self.engine_of(user).storage().members_with(&self.rooms[room], fitting).await?;
            members.sort();
            if let Some(member) = self.dice.pick_any(&members) {
                return Ok(member.clone());
            }
        }
        Ok(self.anybody())
    }
}
