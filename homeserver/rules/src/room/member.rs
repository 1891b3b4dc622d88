//! What users do to their own membership and to that of others, as intents to send.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};

use super::{RoomSnapshot, authorise::NotAllowed, send::Intent};

/// The longest reason that we let a user give, in bytes.
pub const MAX_REASON_BYTES: usize = 2000;

/// What one user does to the membership of another, or to their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Invites the target.
    Invite,
    /// Leaves, or turns down an invitation.
    Leave,
    /// Removes the target from the room.
    Kick,
    /// Removes the target and keeps them out.
    Ban,
    /// Lets the target back in, if they are invited or may join.
    Unban,
}

/// The intent of an action, when it makes sense as the room is. Whether the sender may is for the authorisation rules.
pub fn intent(
    room: &RoomSnapshot,
    action: Action,
    sender: &UserId,
    target: &UserId,
    content: CanonicalJsonObject,
) -> Result<Intent, NotAllowed> {
    let now = room.membership(target);
    if let Some(reason) = impossible(action, &now, sender, target) {
        return Err(NotAllowed(reason));
    }
    Ok(change(sender, target, &resulting(action), content))
}

/// The intent to set a membership, without a look at the room.
pub fn change(
    sender: &UserId,
    target: &UserId,
    membership: &MembershipState,
    mut content: CanonicalJsonObject,
) -> Intent {
    content.insert("membership".to_owned(), CanonicalJsonValue::String(membership.to_string()));
    Intent {
        sender: sender.to_owned(),
        event_type: TimelineEventType::RoomMember,
        state_key: Some(target.to_string()),
        content,
        redacts: None,
        sticky_duration_ms: None,
        origin_server_ts: None,
    }
}

/// The content of a member event, but for the membership.
pub fn content(
    display_name: Option<&str>,
    avatar_url: Option<&str>,
    reason: Option<&str>,
    authorised_via: Option<&OwnedUserId>,
) -> CanonicalJsonObject {
    let fields = [
        ("displayname", display_name),
        ("avatar_url", avatar_url),
        ("reason", reason),
        ("join_authorised_via_users_server", authorised_via.map(|user_id| user_id.as_str())),
    ];
    let text = |text: &str| CanonicalJsonValue::String(text.to_owned());
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), text(value?)))).collect()
}

fn resulting(action: Action) -> MembershipState {
    match action {
        Action::Invite => MembershipState::Invite,
        Action::Ban => MembershipState::Ban,
        Action::Leave | Action::Kick | Action::Unban => MembershipState::Leave,
    }
}

fn impossible(action: Action, now: &MembershipState, sender: &UserId, target: &UserId) -> Option<String> {
    use MembershipState::{Ban, Invite, Join, Knock};
    let outside = !matches!(now, Join | Invite | Knock);
    match action {
        Action::Invite if *now == Join => Some(format!("{target} is already in the room")),
        Action::Invite if *now == Ban => Some(format!("{target} is banned from the room")),
        Action::Unban if *now != Ban => Some(format!("{target} is not banned")),
        Action::Kick if outside => Some(format!("{target} is not in the room")),
        Action::Leave if outside => Some(format!("{sender} is not in the room")),
        _ => None,
    }
}
