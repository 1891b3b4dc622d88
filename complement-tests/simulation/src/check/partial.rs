//! Rooms of which a server does not know all members. It may stay so where nobody would tell: who holds a server to be out
//! of a room, or denies it, gives it no state, and who came later does not know what was before its join.

use storage::{PartialStateRecord, StoredEvent};

use super::facts;
use crate::{Failure, universe::Universe};

/// Whether another server knows what `asker` lacks of a room, and tells it.
pub(crate) async fn is_told(universe: &Universe, asker: usize, lacking: &PartialStateRecord) -> Result<bool, Failure> {
    let Some(room) = universe.rooms.iter().position(|room| *room == lacking.room_id) else { return Ok(false) };
    for facts in facts::load(universe, room).await?.iter().filter(|facts| facts.server != asker && !facts.is_partial) {
        let join = universe.servers[facts.server].storage().event(&lacking.event_id).await?;
        let has_state = |join: &StoredEvent| join.state_before.is_some() || join.order.is_some_and(|order| order > 0);
        let is_known = join.is_some_and(|join| has_state(&join));
        if is_known && facts.presence(universe, asker).is_some() && !facts.denies(universe, asker).await? {
            return Ok(true);
        }
    }
    Ok(false)
}
