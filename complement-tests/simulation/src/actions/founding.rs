//! How a universe begins: with one room that users of all servers may come into, and power for some of them.

use engine::CreateRoomCommand;
use rules::room::create::Preset;
use ruma::{OwnedServerName, OwnedUserId, events::StateEventType};
use serde_json::{json, value::to_raw_value};

use super::Kind;
use crate::{Failure, universe::Universe};

impl Universe {
    /// Makes the first room, in fair weather.
    pub(crate) async fn found(&mut self) -> Result<(), Failure> {
        self.introduce().await?;
        let founder = self.dice.below(self.users.len());
        let mut command = self.new_room();
        command.preset = Some(self.dice.weighted(&[(Preset::PublicChat, 3), (Preset::TrustedPrivateChat, 1)]));
        let others: Vec<usize> = (0..self.users.len()).filter(|user| *user != founder).collect();
        let others: Vec<usize> = others.into_iter().filter(|_| self.dice.percent(80)).collect();
        command.invite = others.iter().map(|user| self.user_id(*user).to_owned()).collect();
        self.found_with(founder, command).await?;
        let via = [self.servers[self.users[founder].server].name().to_owned()];
        for user in others {
            if self.dice.percent(80) {
                self.come_in(user, &via).await?;
            }
        }
        self.share_power(founder).await
    }

    /// Makes all servers known to each other, with their keys. A server that lets another into a room whose users' events
    /// the other cannot verify at that moment, for want of a key, leaves it with part of the state for good; that is as
    /// far as the protocol goes, and would hide what else goes wrong.
    async fn introduce(&self) -> Result<(), Failure> {
        for server in &self.servers {
            for user in self.users.iter().filter(|user| user.requester.user_id.server_name() != server.name()) {
                server.engine.profile(&user.requester.user_id).await?;
            }
        }
        Ok(())
    }

    async fn found_with(&mut self, founder: usize, command: CreateRoomCommand) -> Result<(), Failure> {
        self.tick();
        let who = self.user_id(founder).to_string();
        let what = format!("{:?} version {:?}, invites {:?}", command.preset, command.version, command.invite);
        let room_id = self.engine_of(founder).create_room(self.requester(founder), command).await?;
        self.rooms.push(room_id.clone());
        self.note(Kind::CreateRoom, &who, &what, Ok(format!("room 1 is {room_id}")))
    }

    async fn come_in(&mut self, user: usize, via: &[OwnedServerName]) -> Result<(), Failure> {
        self.tick();
        let who = self.user_id(user).to_string();
        let joined = self.engine_of(user).join(self.requester(user), &self.rooms[0], via, None).await;
        self.note(Kind::Join, &who, "room 1", joined.map(|()| "in".to_owned()))
    }

    /// Gives power to some, so that there is something to quarrel about.
    async fn share_power(&mut self, founder: usize) -> Result<(), Failure> {
        self.tick();
        let Some(mut levels) = self.power_levels(0, founder).await? else { return Ok(()) };
        let users: Vec<OwnedUserId> = self.users.iter().map(|user| user.requester.user_id.clone()).collect();
        for (_, user_id) in users.iter().enumerate().filter(|(user, _)| *user != founder) {
            let level = self.dice.weighted(&[(0, 3), (50, 3), (100, 2)]);
            levels["users"][user_id.as_str()] = json!(level);
        }
        let content = to_raw_value(&levels).expect("a JSON object is JSON");
        let (engine, requester) = (self.engine_of(founder), self.requester(founder));
        let event_type = StateEventType::RoomPowerLevels;
        let set = engine.set_state(requester, &self.rooms[0], event_type, "", &content).await;
        let who = self.user_id(founder).to_string();
        self.note(Kind::PowerLevels, &who, &levels.to_string(), set.map(|event_id| event_id.to_string()))
    }
}
