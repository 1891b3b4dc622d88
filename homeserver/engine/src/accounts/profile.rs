//! What users show of themselves.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#profiles>

mod remote;

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use storage::Profile;

pub(super) use self::remote::{RemoteProfiles, remote_profiles};
use super::{Requester, refuse_nul, to_the_end};
use crate::{Engine, EngineError, Result};

/// The longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// The longest avatar URI, in bytes.
const AVATAR_URL_BYTES_MAX: usize = 1000;

impl Engine {
    /// The profile of any user; that of another server's is asked for there.
    pub async fn profile(&self, user_id: &UserId) -> Result<Profile> {
        if self.is_local(user_id) { self.local_profile(user_id).await } else { self.remote_profile(user_id).await }
    }

    /// The profile of a local user.
    pub async fn local_profile(&self, user_id: &UserId) -> Result<Profile> {
        let profile = if self.is_local(user_id) { self.storage().profile(user_id).await? } else { None };
        profile.ok_or_else(|| EngineError::not_found("Profile not found"))
    }

    /// Sets the display name, here and in all rooms; none or an empty one takes it away.
    pub async fn set_display_name(&self, requester: &Requester, display_name: Option<String>) -> Result<()> {
        let display_name = display_name.filter(|text| !text.is_empty());
        check_field(display_name.as_deref(), "A display name", DISPLAY_NAME_BYTES_MAX)?;
        let user_id = &requester.user_id;
        self.storage().set_display_name(user_id, display_name.as_deref()).await?;
        self.show_profile_in_rooms(user_id).await
    }

    /// Sets the avatar, here and in all rooms; none or an empty one takes it away.
    pub async fn set_avatar_url(&self, requester: &Requester, avatar_url: Option<String>) -> Result<()> {
        let avatar_url = avatar_url.filter(|text| !text.is_empty());
        check_field(avatar_url.as_deref(), "An avatar URL", AVATAR_URL_BYTES_MAX)?;
        let user_id = &requester.user_id;
        self.storage().set_avatar_url(user_id, avatar_url.as_deref()).await?;
        self.show_profile_in_rooms(user_id).await
    }

    async fn show_profile_in_rooms(&self, user_id: &UserId) -> Result<()> {
        let engine = self.clone();
        let user_id: OwnedUserId = user_id.to_owned();
        to_the_end(async move { engine.refresh_member_events(&user_id).await }).await?
    }

    /// Each room stands for itself: one in which the user may not speak does not keep the others from the news.
    async fn refresh_member_events(&self, user_id: &UserId) -> Result<()> {
        for record in self.storage().memberships(user_id).await? {
            if record.membership != MembershipState::Join {
                continue;
            }
            if let Err(error) = self.refresh_member_event(user_id, &record.room_id).await {
                let room_id = &record.room_id;
                tracing::warn!(user.id = %user_id, room.id = %room_id, %error, "could not show the new profile");
            }
        }
        Ok(())
    }
}

fn check_field(text: Option<&str>, what: &str, bytes_max: usize) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > bytes_max {
        return Err(EngineError::TooLarge(format!("{what} must not be longer than {bytes_max} bytes")));
    }
    refuse_nul(text, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_measured_in_bytes() {
        assert!(check_field(None, "It", 256).is_ok());
        assert!(check_field(Some(&"\u{e9}".repeat(128)), "It", 256).is_ok());
        let too_long = check_field(Some(&"\u{e9}".repeat(129)), "It", 256);
        assert!(matches!(too_long, Err(EngineError::TooLarge(_))));
        assert!(matches!(check_field(Some("a\0"), "It", 256), Err(EngineError::InvalidParam(_))));
    }
}
