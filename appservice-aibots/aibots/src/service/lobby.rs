//! The room where bots can be found: homeservers show their users whom they could meet in public rooms.

use super::Service;
use crate::matrix::CallError;

/// Under which name the room is remembered.
const FACT: &str = "lobby";

/// The localpart of its alias.
const ALIAS: &str = "ai-buddies";

impl Service {
    /// Makes the room, unless it is there, and has all bots in it.
    pub(super) async fn open_lobby(&self) -> Result<(), CallError> {
        let Some(first) = self.bots().first() else { return Ok(()) };
        let failed = |error: sqlx::Error| CallError::Away(error.to_string());
        let room_id = if let Some(room_id) = self.store.fact(FACT).await.map_err(failed)? {
            room_id
        } else {
            let topic = "Whoever wants to talk with the bots of this server finds them here.";
            let room_id = self.homeserver.make_public_room(&first.user_id, ALIAS, "AI buddies", topic).await?;
            self.store.note(FACT, &room_id).await.map_err(failed)?;
            room_id
        };
        for bot in self.bots() {
            self.homeserver.join(&bot.user_id, &room_id).await?;
        }
        Ok(())
    }

    /// Whether this is the room where bots stay, though nobody else is there.
    pub(crate) async fn is_lobby(&self, room_id: &str) -> Result<bool, sqlx::Error> {
        Ok(self.store.fact(FACT).await?.is_some_and(|lobby| lobby == room_id))
    }
}
