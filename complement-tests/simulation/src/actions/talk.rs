//! Users talk.

use engine::SendCommand;
use ruma::{OwnedEventId, events::receipt::ReceiptType};

use super::{Kind, Outcome, message};
use crate::{
    Failure,
    universe::{Sent, Universe},
};

/// How many of the latest messages users still refer to.
const RECENT: usize = 15;
/// The longest that the engine believes that somebody types.
const TYPING_MS: u64 = 30_000;

impl Universe {
    pub(super) async fn talk(&mut self, kind: Kind) -> Result<(), Failure> {
        if kind == Kind::SendAgain {
            return self.send_again().await;
        }
        let (room, user) = self.room_and_user().await?;
        let who = self.user_id(user).to_string();
        let what = format!("room {}", room + 1);
        let outcome = match kind {
            Kind::Send => self.send(room, user).await,
            Kind::Typing => self.type_for_a_moment(room, user).await,
            _ => {
                let Some(event_id) = self.recent(room) else { return Ok(()) };
                self.refer(kind, room, user, &event_id).await
            }
        };
        self.note(kind, &who, &what, outcome)
    }

    async fn send(&mut self, room: usize, user: usize) -> Outcome {
        let number = self.next();
        let transaction_id = format!("t{number}");
        let command = SendCommand {
            transaction_id: Some(transaction_id.clone()),
            ..message(&self.rooms[room], &format!("message {number}"))
        };
        let event_id = self.engine_of(user).send(self.requester(user), command).await?;
        self.promise(user, room, &event_id);
        self.sent.push(Sent { user, room, transaction_id, event_id: event_id.clone() });
        Ok(event_id.to_string())
    }

    /// Starts to type, and stops before the engine would stop it: that it does by the clock on the wall, which no replay
    /// repeats.
    async fn type_for_a_moment(&mut self, room: usize, user: usize) -> Outcome {
        let server = self.users[user].server;
        self.engine_of(user).typing(self.requester(user), &self.rooms[room], Some(TYPING_MS)).await?;
        let pending = self.servers[server].sender().pending().await?;
        if let Some(destination) = self.dice.pick_any(&pending) {
            self.servers[server].sender().flush(destination).await?;
        }
        self.engine_of(user).typing(self.requester(user), &self.rooms[room], None).await?;
        Ok("for a moment".to_owned())
    }

    /// A client that did not hear the answer sends a message again.
    async fn send_again(&mut self) -> Result<(), Failure> {
        let Some(Sent { user, room, transaction_id, event_id }) = self.dice.pick_any(&self.sent).cloned() else {
            return Ok(());
        };
        let command = SendCommand {
            transaction_id: Some(transaction_id.clone()),
            ..message(&self.rooms[room], "the body does not matter")
        };
        let again = self.engine_of(user).send(self.requester(user), command).await;
        if let Ok(other) = &again
            && *other != event_id
        {
            let text = format!("transaction {transaction_id} led to {event_id} and then to {other}");
            return Err(Failure::new(text));
        }
        let who = self.user_id(user).to_string();
        self.note(Kind::SendAgain, &who, &transaction_id, again.map(|event_id| event_id.to_string()))
    }

    async fn refer(&mut self, kind: Kind, room: usize, user: usize, event_id: &OwnedEventId) -> Outcome {
        let (engine, requester, room_id) = (self.engine_of(user), self.requester(user), &self.rooms[room]);
        if kind == Kind::Receipt {
            engine.receipt(requester, room_id, ReceiptType::Read, event_id, None).await?;
            return Ok(format!("up to {event_id}"));
        }
        let redaction_id = engine.redact(requester, room_id, event_id, None, None).await?;
        self.promise(user, room, &redaction_id);
        Ok(format!("of {event_id} by {redaction_id}"))
    }

    fn recent(&mut self, room: usize) -> Option<OwnedEventId> {
        let of_room = self.sent.iter().rev().filter(|sent| sent.room == room).take(RECENT);
        let recent: Vec<OwnedEventId> = of_room.map(|sent| sent.event_id.clone()).collect();
        self.dice.pick_any(&recent).cloned()
    }
}
