//! What must hold once all is quiet.

mod agreement;
mod delivery;
mod facts;
mod partial;
mod table;
mod timelines;
mod visibility;

use engine::EngineError;
use ruma::OwnedEventId;

use self::facts::RoomFacts;
pub(crate) use self::partial::is_told;
use crate::{Failure, client::page_back, universe::Universe};

/// What was found that must not be.
#[derive(Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, text: String) {
        self.0.push(text);
    }
}

/// What a user gets who pages back from now as far as it goes, newest first; `None` where that is refused.
struct Paged {
    user: usize,
    room: usize,
    events: Option<Vec<OwnedEventId>>,
}

/// Checks everything, and tells what does not hold.
pub(crate) async fn check(universe: &mut Universe) -> Result<Vec<String>, Failure> {
    let mut findings = Findings::default();
    // First, because it may fetch history from other servers, and then the tables are others.
    let paged = page_all(universe).await?;
    let mut rooms = Vec::new();
    for room in 0..universe.rooms.len() {
        rooms.push(facts::load(universe, room).await?);
    }
    for (room, facts) in rooms.iter().enumerate() {
        agreement::check(universe, room, facts, &mut findings).await?;
        delivery::check_promises(universe, room, facts, &mut findings).await?;
        delivery::check_receipts(universe, room, facts, &mut findings).await?;
        timelines::check(universe, room, facts, &mut findings);
        visibility::probe(universe, room, facts, &mut findings).await?;
    }
    timelines::check_paged(universe, &rooms, &paged, &mut findings);
    delivery::check_queues(universe, &mut findings).await?;
    for server in &universe.servers {
        for violation in server.storage().fsck().await? {
            findings.add(format!("{}: fsck: {violation}", server.name()));
        }
    }
    if !findings.0.is_empty() {
        for (room, facts) in rooms.iter().enumerate() {
            table::lines(universe, room, facts).await?.into_iter().for_each(|line| universe.trace.aside(line));
        }
    }
    Ok(findings.0)
}

async fn page_all(universe: &mut Universe) -> Result<Vec<Paged>, Failure> {
    let mut paged = Vec::new();
    for user in 0..universe.users.len() {
        for room in 0..universe.rooms.len() {
            let limit = universe.dice.between(5, 40);
            let (engine, requester) = (universe.engine_of(user), universe.requester(user));
            let events = page_back(engine, requester, &universe.rooms[room], None, None, limit).await;
            let events = match events {
                Ok(events) => Some(events),
                Err(failure) if is_forbidden(&failure) => None,
                Err(failure) => return Err(failure),
            };
            paged.push(Paged { user, room, events });
        }
    }
    Ok(paged)
}

fn is_forbidden(failure: &Failure) -> bool {
    *failure == Failure::from(EngineError::Forbidden("You are not in this room".to_owned()))
}
