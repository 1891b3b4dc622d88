//! Profiles of other servers' users: asked for, cleaned, and remembered for a minute.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile>

use std::time::Duration;

use moka::future::Cache;
use outbound::CallError;
use ruma::{OwnedUserId, UserId};
use storage::Profile;

use super::{AVATAR_URL_BYTES_MAX, DISPLAY_NAME_BYTES_MAX};
use crate::{Engine, EngineError, Result, accounts::show_cache_size};

/// Profiles that were asked for lately.
pub(in crate::accounts) type RemoteProfiles = Cache<OwnedUserId, Profile>;

/// How old an answer may be. Clients ask for the same few profiles again and again while a room is shown.
const FRESH: Duration = Duration::from_mins(1);

/// Some 1.5 kB each at most.
const CAPACITY: u64 = 10_000;

/// Why there is no profile. The other server's words stay out of it.
#[derive(Clone, Copy)]
enum Missing {
    NoSuchUser,
    NoAnswer,
}

pub(in crate::accounts) fn remote_profiles() -> RemoteProfiles {
    Cache::builder().max_capacity(CAPACITY).time_to_live(FRESH).build()
}

impl Engine {
    /// Asks another server. Those who ask for the same user at the same time share one question.
    pub(super) async fn remote_profile(&self, user_id: &UserId) -> Result<Profile> {
        let profiles = &self.inner.accounts.remote_profiles;
        let answer = profiles.try_get_with(user_id.to_owned(), self.query_profile(user_id)).await;
        show_cache_size("remote_profiles", profiles.entry_count());
        answer.map_err(|missing| match *missing {
            Missing::NoSuchUser => EngineError::not_found("Profile not found"),
            Missing::NoAnswer => EngineError::CannotFederate("The user's server could not be asked".to_owned()),
        })
    }

    async fn query_profile(&self, user_id: &UserId) -> Result<Profile, Missing> {
        let answer = self.federation().query_profile(user_id.server_name(), user_id).await;
        let answer = answer.map_err(|error| missing(user_id, &error))?;
        Ok(Profile {
            display_name: clean(answer.display_name, DISPLAY_NAME_BYTES_MAX),
            avatar_url: clean(answer.avatar_url, AVATAR_URL_BYTES_MAX),
        })
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
