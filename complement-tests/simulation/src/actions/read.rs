//! Users read.

use engine::{EngineError, MessagesQuery};
use ruma::api::client::filter::RoomEventFilter;

use super::{Kind, Outcome};
use crate::{Failure, client::id_of, universe::Universe};

/// How far back a user pages at most.
const PAGES_MAX: usize = 4;

impl Universe {
    pub(super) async fn read(&mut self, kind: Kind) -> Result<(), Failure> {
        if kind == Kind::Sync {
            let user = self.dice.below(self.users.len());
            let who = self.user_id(user).to_string();
            self.sync(user).await?;
            return self.note(kind, &who, "", Ok("done".to_owned()));
        }
        let (room, user) = self.room_and_user().await?;
        let who = self.user_id(user).to_string();
        let paged = self.page(room, user).await;
        self.note(kind, &who, &format!("room {}", room + 1), paged)
    }

    /// Pages backwards from now, which may fetch history from other servers.
    async fn page(&mut self, room: usize, user: usize) -> Outcome {
        let limit = self.dice.between(1, 20);
        let mut from = None;
        let mut count = 0;
        for _ in 0..PAGES_MAX {
            let query = MessagesQuery {
                room_id: self.rooms[room].clone(),
                from,
                to: None,
                forward: false,
                limit,
                filter: RoomEventFilter::default(),
            };
            let page = self.engine_of(user).messages(self.requester(user), query).await?;
            count += page.chunk.len();
            for event in &page.chunk {
                id_of(event).map_err(|failure| EngineError::Internal(failure.0))?;
            }
            from = page.end;
            if from.is_none() {
                break;
            }
        }
        Ok(format!("{count} events"))
    }
}
