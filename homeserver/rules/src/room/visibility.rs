//! Who may see an event: the one rule that every read path asks.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>

use ruma::events::room::{history_visibility::HistoryVisibility, member::MembershipState};

/// What decides whether a user, or a server for its users, may see one event.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The history visibility at the event. For a change of it: the more open of the two.
    pub history_visibility: HistoryVisibility,
    /// The membership at the event. For the user's own member event: the more involved of the two.
    pub membership_then: MembershipState,
    /// Whether the user is joined now, or was when the event happened or at any time after.
    pub joined_since: bool,
}

/// Whether the event may be seen.
pub fn may_see(circumstances: &Circumstances) -> bool {
    use HistoryVisibility::{Invited, Joined, WorldReadable};
    let Circumstances { history_visibility, membership_then, joined_since } = circumstances;
    // 1. If the history visibility was set to world_readable, allow.
    // 2. If the user's membership was join, allow.
    if *history_visibility == WorldReadable || *membership_then == MembershipState::Join {
        return true;
    }
    match history_visibility {
        // 4. If the user's membership was invite, and the history visibility was set to invited, allow.
        Invited => *membership_then == MembershipState::Invite,
        // 5. Otherwise, deny.
        Joined => false,
        // 3. If history visibility was set to shared, and the user joined the room at any point after the event was
        //    sent, allow. An unknown value counts as the default, which is shared.
        _ => *joined_since,
    }
}

/// The more open of two settings.
pub fn more_open(a: HistoryVisibility, b: HistoryVisibility) -> HistoryVisibility {
    let openness = |visibility: &HistoryVisibility| match visibility {
        HistoryVisibility::Joined => 0,
        HistoryVisibility::Invited => 1,
        HistoryVisibility::WorldReadable => 3,
        _ => 2,
    };
    if openness(&a) >= openness(&b) { a } else { b }
}

/// The more involved of two memberships.
pub fn more_involved(a: MembershipState, b: MembershipState) -> MembershipState {
    let involvement = |membership: &MembershipState| match membership {
        MembershipState::Join => 2,
        MembershipState::Invite => 1,
        _ => 0,
    };
    if involvement(&a) >= involvement(&b) { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_128_visibility_matrix() {
        use HistoryVisibility as V;
        use MembershipState as M;
        let cases = [
            (V::WorldReadable, M::Leave, false, true),
            (V::Shared, M::Join, false, true),
            (V::Shared, M::Leave, true, true),
            (V::Shared, M::Leave, false, false),
            (V::Shared, M::Invite, false, false),
            (V::Invited, M::Invite, false, true),
            (V::Invited, M::Leave, true, false),
            (V::Joined, M::Invite, true, false),
            (V::Joined, M::Join, true, true),
            (V::Joined, M::Ban, false, false),
        ];
        for (history_visibility, membership_then, joined_since, expected) in cases {
            let circumstances = Circumstances { history_visibility, membership_then, joined_since };
            assert_eq!(may_see(&circumstances), expected, "{circumstances:?}");
        }
    }
}
