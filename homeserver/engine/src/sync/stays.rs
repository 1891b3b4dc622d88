//! The times that a user was in a room, as far as one sync goes.
//!
//! They are read off the room's state, not off the user's own member events: when branches of a room are resolved, a
//! user can come in or be out by somebody else's event.

use rules::change::Position;
use ruma::events::room::member::MembershipState;
use storage::StateSpan;

/// What the times that a user was in a room mean for a client that was told everything up to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stays {
    /// Whether the user was in the room then.
    pub(crate) was_in: bool,
    /// The order of the event by which the user had left before, if ever.
    pub(crate) left_before: Option<i64>,
    /// The order of the event by which the user left last, if that was since.
    pub(crate) left_since: Option<i64>,
}

impl Stays {
    /// Out of the history of the user's membership, for a client that was told everything up to `since`, or nothing.
    /// What happens after `now` does not count.
    pub(crate) fn new(history: &[StateSpan], since: Option<Position>, now: Position) -> Self {
        // That the user was in the room before this server was, others may believe whose answer to a join was lost.
        let is_stay =
            |span: &&StateSpan| span.membership == Some(MembershipState::Join) && span.since > 0 && span.since <= now;
        let ends = || history.iter().filter(is_stay).filter_map(|span| span.until);
        let is_told = |end: &i64| since.is_some_and(|since| *end <= since);
        Self {
            was_in: since.is_some_and(|since| history.iter().filter(is_stay).any(|span| span.contains(since))),
            left_before: ends().filter(is_told).max(),
            left_since: ends().filter(|end| !is_told(end) && *end <= now).max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(membership: MembershipState, since: i64, until: Option<i64>) -> StateSpan {
        StateSpan { since, until, event_id: None, membership: Some(membership) }
    }

    #[test]
    fn stays_are_divided_by_what_was_told() {
        use MembershipState::{Join, Leave};
        let history = [
            span(Join, 10, Some(20)),
            span(Leave, 20, Some(30)),
            span(Join, 30, Some(40)),
            span(Leave, 40, Some(50)),
            span(Join, 50, None),
        ];
        let of = |since, now| {
            let Stays { was_in, left_before, left_since } = Stays::new(&history, since, now);
            (was_in, left_before, left_since)
        };
        assert_eq!(of(None, 5), (false, None, None));
        assert_eq!(of(None, 25), (false, None, Some(20)));
        assert_eq!(of(Some(15), 25), (true, None, Some(20)));
        assert_eq!(of(Some(15), 18), (true, None, None));
        assert_eq!(of(Some(20), 35), (false, Some(20), None));
        assert_eq!(of(Some(25), 45), (false, Some(20), Some(40)));
        assert_eq!(of(Some(25), 60), (false, Some(20), Some(40)));
        assert_eq!(of(Some(45), 60), (false, Some(40), None));
        assert_eq!(of(Some(55), 60), (true, Some(40), None));
    }

    #[test]
    fn other_memberships_are_no_stays() {
        use MembershipState::{Ban, Invite, Knock, Leave};
        let history: Vec<StateSpan> = [Invite, Leave, Knock, Ban]
            .into_iter()
            .zip([10, 20, 30, 40])
            .map(|(membership, since)| span(membership, since, Some(since + 10)))
            .collect();
        assert_eq!(Stays::new(&history, Some(15), 60), Stays { was_in: false, left_before: None, left_since: None },);
    }
}
