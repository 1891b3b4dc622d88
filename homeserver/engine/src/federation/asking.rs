//! Which servers of a room are asked for what any of them may have.

use std::time::Duration;

use rules::RoomSnapshot;
use ruma::OwnedServerName;
use tokio::time::{Instant, timeout_at};

use crate::Engine;

/// How many servers may answer in vain before we give up.
const MAX_ANSWERS: usize = 3;
/// How many are asked, those included that do not answer.
const MAX_ASKED: usize = 10;
/// How long all of that may take: somebody waits for it.
const DEADLINE: Duration = Duration::from_secs(40);

/// Who is asked, one after the other.
pub(crate) struct Asking {
    servers: std::vec::IntoIter<OwnedServerName>,
    answers_left: usize,
    end: Instant,
}

impl Engine {
    /// Begins to ask other servers in a room: those before the others to which nothing is known to be failing, and those
    /// first that have most users in it, for they are most likely to be there, and to have been for long.
    pub(crate) fn asking(&self, room: &RoomSnapshot) -> Asking {
        let others = room.servers_by_size().into_iter().filter(|server| *server != self.server_name());
        let mut servers: Vec<OwnedServerName> = others.map(ToOwned::to_owned).collect();
        servers.sort_by_key(|server| self.sender().is_failing(server));
        servers.truncate(MAX_ASKED);
        Asking { servers: servers.into_iter(), answers_left: MAX_ANSWERS, end: Instant::now() + DEADLINE }
    }
}

impl Asking {
    /// The next server, while there is one and time for it.
    pub(crate) fn next(&mut self) -> Option<OwnedServerName> {
        if self.answers_left == 0 || Instant::now() >= self.end { None } else { self.servers.next() }
    }

    /// What a server answers, if it does in time.
    pub(crate) async fn answer<T, E>(&mut self, asked: impl Future<Output = Result<T, E>>) -> Option<T> {
        let answer = timeout_at(self.end, asked).await.ok()?.ok()?;
        self.answers_left -= 1;
        Some(answer)
    }
}
