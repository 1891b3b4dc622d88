//! What can happen in one step: which of it does, and to whom, is thrown by dice.

mod founding;
mod membership;
mod read;
mod state;
mod talk;
mod world;

use engine::{EngineError, SendCommand};
use ruma::{
    OwnedEventId, RoomId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{json, value::to_raw_value};

use crate::{
    Failure,
    universe::{Promise, Universe},
};

/// How many rooms a universe has at most: few, so that much happens in each.
const ROOMS_MAX: usize = 3;
/// The longest that one thing comes after another, when nobody waits. Never at the same moment: state resolution puts
/// events in order by their timestamps, and what follows upon another must not seem to come before it.
const STEP_MAX_MS: usize = 50;
/// How often we look for a user who is in the room before we take one who is not.
const TRIES: usize = 10;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CreateRoom,
    Invite,
    Join,
    Leave,
    Kick,
    Ban,
    Unban,
    PowerLevels,
    Topic,
    Name,
    JoinRules,
    HistoryVisibility,
    ServerAcl,
    DisplayName,
    Send,
    SendAgain,
    Redact,
    Receipt,
    Typing,
    Sync,
    Page,
    Restart,
    Rotate,
    Cut,
    Mend,
    Flush,
    FlushAll,
    Complete,
    Wait,
}

impl Kind {
    /// All of them, each with its weight in a universe of the average character.
    pub(crate) const ALL: [(Self, u32); 29] = [
        (Self::CreateRoom, 2),
        (Self::Invite, 5),
        (Self::Join, 9),
        (Self::Leave, 2),
        (Self::Kick, 2),
        (Self::Ban, 2),
        (Self::Unban, 2),
        (Self::PowerLevels, 4),
        (Self::Topic, 4),
        (Self::Name, 2),
        (Self::JoinRules, 2),
        (Self::HistoryVisibility, 2),
        (Self::ServerAcl, 2),
        (Self::DisplayName, 1),
        (Self::Send, 20),
        (Self::SendAgain, 2),
        (Self::Redact, 3),
        (Self::Receipt, 4),
        (Self::Typing, 2),
        (Self::Sync, 14),
        (Self::Page, 2),
        (Self::Restart, 1),
        (Self::Rotate, 1),
        (Self::Cut, 3),
        (Self::Mend, 2),
        (Self::Flush, 18),
        (Self::FlushAll, 5),
        (Self::Complete, 5),
        (Self::Wait, 6),
    ];

    fn factor(self, universe: &Universe) -> u32 {
        let character = &universe.character;
        match self {
            Self::Send | Self::Receipt | Self::Redact => character.talk,
            Self::Leave | Self::Kick | Self::Ban | Self::Unban | Self::PowerLevels | Self::JoinRules => {
                character.quarrel
            }
            Self::Cut => character.cuts,
            Self::Flush | Self::FlushAll => character.haste,
            Self::Restart | Self::Rotate => u32::from(universe.servers[0].can_restart()),
            _ => 1,
        }
    }
}

/// What became of an action: whatever a replay must repeat of it.
pub(crate) type Outcome = Result<String, EngineError>;

impl Universe {
    /// Lets one thing happen.
    pub(crate) async fn step(&mut self) -> Result<(), Failure> {
        let choices: Vec<(Kind, u32)> =
            Kind::ALL.into_iter().map(|(kind, weight)| (kind, weight * kind.factor(self))).collect();
        self.tick();
        let kind = if self.rooms.is_empty() { Kind::CreateRoom } else { self.dice.weighted(&choices) };
        self.happen(kind).await?;
        self.note_set_aside().await
    }

    /// Lets the moment pass.
    fn tick(&mut self) {
        let passed_ms = self.dice.between(1, STEP_MAX_MS);
        self.clock.advance(passed_ms as u64);
    }

    async fn happen(&mut self, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::CreateRoom => self.create_room().await,
            Kind::Invite | Kind::Join | Kind::Leave | Kind::Kick | Kind::Ban | Kind::Unban => {
                self.change_membership(kind).await
            }
            Kind::PowerLevels
            | Kind::Topic
            | Kind::Name
            | Kind::JoinRules
            | Kind::HistoryVisibility
            | Kind::ServerAcl
            | Kind::DisplayName => self.change_state(kind).await,
            Kind::Send | Kind::SendAgain | Kind::Redact | Kind::Receipt | Kind::Typing => self.talk(kind).await,
            Kind::Sync | Kind::Page => self.read(kind).await,
            Kind::Restart
            | Kind::Rotate
            | Kind::Cut
            | Kind::Mend
            | Kind::Flush
            | Kind::FlushAll
            | Kind::Complete
            | Kind::Wait => self.turn_the_world(kind).await,
        }
    }

    /// A room: the first, which all know, more often than the others.
    fn any_room(&mut self) -> usize {
        if self.dice.percent(50) { 0 } else { self.dice.below(self.rooms.len()) }
    }

    /// A room, and a user who is most likely in it.
    async fn room_and_user(&mut self) -> Result<(usize, usize), Failure> {
        let room = self.any_room();
        let mut user = self.dice.below(self.users.len());
        if self.dice.percent(5) {
            return Ok((room, user));
        }
        for _ in 0..TRIES {
            let storage = self.engine_of(user).storage();
            let record = storage.membership(self.user_id(user), &self.rooms[room]).await?;
            if record.is_some_and(|record| record.membership == MembershipState::Join) {
                break;
            }
            user = self.dice.below(self.users.len());
        }
        Ok((room, user))
    }

    /// Notes what became of an action; refusals are part of life, everything else is not.
    fn note(&self, kind: Kind, who: &str, what: &str, outcome: Outcome) -> Result<(), Failure> {
        let age_ms = self.clock.age_ms();
        match outcome {
            Ok(result) => {
                self.trace.count(&format!("{kind:?}"));
                self.trace.note(format!("{age_ms} {who} {kind:?} {what}: {result}"));
                Ok(())
            }
            Err(error) if is_refusal(&error) => {
                self.trace.count(&format!("{kind:?}, refused"));
                self.trace.note(format!("{age_ms} {who} {kind:?} {what}: refused: {error}"));
                Ok(())
            }
            Err(error) => {
                self.trace.note(format!("{age_ms} {who} {kind:?} {what}: FAILED: {error:?}"));
                Err(error.into())
            }
        }
    }

    fn promise(&mut self, user: usize, room: usize, event_id: &OwnedEventId) {
        let server = self.users[user].server;
        self.promises.push(Promise { server, room, event_id: event_id.clone() });
    }
}

/// Whether an error is one that a user may meet with when nothing is broken but the network.
pub(crate) fn is_refusal(error: &EngineError) -> bool {
    !matches!(error, EngineError::Internal(_) | EngineError::Storage(_) | EngineError::Busy)
}

/// A text message.
pub(crate) fn message(room_id: &RoomId, body: &str) -> SendCommand {
    let content = json!({ "msgtype": "m.text", "body": body });
    SendCommand {
        room_id: room_id.to_owned(),
        event_type: TimelineEventType::RoomMessage,
        content: to_raw_value(&content).expect("a JSON object is JSON"),
        transaction_id: None,
    }
}
