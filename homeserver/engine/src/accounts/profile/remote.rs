//! Profiles of other servers' users: asked for, cleaned, and remembered for a minute.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>

use std::time::Duration;

use moka::future::Cache;
use outbound::CallError;
use ruma::{OwnedUserId, UserId};
use serde_json::Value;

use super::{AVATAR_URL_BYTES_MAX, DISPLAY_NAME_BYTES_MAX, PROFILE_BYTES_MAX, UserProfile, check_field_name};
use crate::{Engine, EngineError, Result, accounts::show_cache_size};

/// Profiles that were asked for lately.
pub(in crate::accounts) type RemoteProfiles = Cache<OwnedUserId, UserProfile>;

/// How old an answer may be. Clients ask for the same few profiles again and again while a room is shown.
const FRESH: Duration = Duration::from_mins(1);

/// In bytes of what they hold.
const CAPACITY: u64 = 16 * 1024 * 1024;

/// What an entry costs beside what it holds.
const ENTRY_BYTES: usize = 200;

/// Why there is no profile. The other server's words stay out of it.
#[derive(Clone, Copy)]
enum Missing {
    NoSuchUser,
    NoAnswer,
}

pub(in crate::accounts) fn remote_profiles() -> RemoteProfiles {
    let weight =
        |_: &OwnedUserId, profile: &UserProfile| u32::try_from(profile.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(CAPACITY).weigher(weight).time_to_live(FRESH).build()
}

impl Engine {
    /// Asks another server. Those who ask for the same user at the same time share one question.
    pub(super) async fn remote_profile(&self, user_id: &UserId) -> Result<UserProfile> {
        let profiles = &self.inner.accounts.remote_profiles;
        let answer = profiles.try_get_with(user_id.to_owned(), self.query_profile(user_id)).await;
        show_cache_size("remote_profiles", profiles.entry_count());
        answer.map_err(|missing| match *missing {
            Missing::NoSuchUser => EngineError::not_found("Profile not found"),
            Missing::NoAnswer => EngineError::CannotFederate("The user's server could not be asked".to_owned()),
        })
    }

    /// A user of another server has changed their profile: what we know of it is old.
    pub(crate) async fn forget_remote_profile(&self, user_id: &UserId) {
        self.inner.accounts.remote_profiles.invalidate(user_id).await;
    }

    async fn query_profile(&self, user_id: &UserId) -> Result<UserProfile, Missing> {
        let answer = self.federation().query_profile(user_id.server_name(), user_id).await;
        let answer = answer.map_err(|error| missing(user_id, &error))?;
        let display_name = clean(answer.display_name, DISPLAY_NAME_BYTES_MAX);
        let avatar_url = clean(answer.avatar_url, AVATAR_URL_BYTES_MAX);
        let mut profile = UserProfile { display_name, avatar_url, fields: answer.fields };
        profile.fields.retain(|name, value: &mut Value| check_field_name(name).is_ok() && !value.is_null());
        if profile.bytes() > PROFILE_BYTES_MAX {
            profile.fields.clear();
        }
        Ok(profile)
    }
}

fn missing(user_id: &UserId, error: &CallError) -> Missing {
    if matches!(error, CallError::Refused { status: 404, .. }) {
        return Missing::NoSuchUser;
    }
    tracing::info!(user.id = %user_id, %error, "no profile from the user's server");
    Missing::NoAnswer
}

/// A field as we would have stored it; anything else is as good as nothing.
fn clean(field: Option<String>, bytes_max: usize) -> Option<String> {
    field.filter(|text| (1..=bytes_max).contains(&text.len()) && !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_fields_are_left_out() {
        let cleaned = |text: &str| clean(Some(text.to_owned()), 256);
        assert_eq!(cleaned("Alice").as_deref(), Some("Alice"));
        assert!(cleaned(&"\u{e9}".repeat(128)).is_some());
        for hostile in ["", "a\0", &"\u{e9}".repeat(129)] {
            assert_eq!(cleaned(hostile), None, "{hostile:?}");
        }
        assert_eq!(clean(None, 256), None);
    }
}
