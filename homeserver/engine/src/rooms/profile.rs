//! A user's profile as it stands in the member events of their rooms.

use rules::room::member;
use ruma::{
    CanonicalJsonObject, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{Engine, Result};

impl Engine {
    /// Sends the user's member event anew with the profile that storage has now.
    pub(crate) async fn refresh_member_event(&self, user_id: &UserId, room_id: &RoomId) -> Result<()> {
        let content = self.member_content(user_id, None).await?;
        let room = self.known_room(room_id).await?;
        let existing = self.state_pdu(&room, &StateEventType::RoomMember, user_id.as_str()).await?;
        let existing = existing.and_then(|event| event.content_as::<CanonicalJsonObject>()).unwrap_or_default();
        let same = ["displayname", "avatar_url"].iter().all(|field| existing.get(*field) == content.get(*field));
        if same {
            return Ok(());
        }
        let intent = member::change(user_id, user_id, &MembershipState::Join, content);
        self.send_intent(room_id, intent, None).await.map(drop)
    }

    /// The content of a member event of one of our users, but for the membership.
    pub(crate) async fn member_content(&self, user_id: &UserId, reason: Option<&str>) -> Result<CanonicalJsonObject> {
        let profile = self.storage().profile(user_id).await?;
        let (display_name, avatar_url) =
            profile.map(|profile| (profile.display_name, profile.avatar_url)).unwrap_or_default();
        Ok(member::content(display_name.as_deref(), avatar_url.as_deref(), reason, None))
    }
}
