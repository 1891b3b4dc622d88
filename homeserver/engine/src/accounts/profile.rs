//! What users show of themselves.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#profiles>

mod remote;

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId, events::room::member::MembershipState};
use serde_json::Value;

pub(super) use self::remote::{RemoteProfiles, remote_profiles};
use super::{Requester, refuse_nul, to_the_end};
use crate::{Engine, EngineError, Result};

/// The longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// The longest avatar URI, in bytes.
const AVATAR_URL_BYTES_MAX: usize = 1000;

/// The longest name of a field, in bytes.
const FIELD_NAME_BYTES_MAX: usize = 255;

/// The largest profile, in bytes of JSON: the specification's limit.
const PROFILE_BYTES_MAX: usize = 65_536;

/// What a profile costs in JSON beside its fields: braces, and for each field quotes, colon and comma.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// All that a user shows of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserProfile {
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar, an `mxc:` URI.
    pub avatar_url: Option<String>,
    /// All else, by name.
    pub fields: BTreeMap<String, Value>,
}

impl UserProfile {
    /// All fields by their names on the wire.
    pub fn into_fields(self) -> BTreeMap<String, Value> {
        let mut fields = self.fields;
        fields.extend(self.display_name.map(|name| ("displayname".to_owned(), name.into())));
        fields.extend(self.avatar_url.map(|url| ("avatar_url".to_owned(), url.into())));
        fields
    }

    fn bytes(&self) -> usize {
        let texts = [&self.display_name, &self.avatar_url].into_iter().flatten().map(|text| text.len() + 16);
        let field = |(name, value): (&String, &Value)| name.len() + value.to_string().len() + FIELD_OVERHEAD_BYTES;
        texts.sum::<usize>() + self.fields.iter().map(field).sum::<usize>()
    }
}

impl Engine {
    /// The profile of any user; that of another server's is asked for there.
    pub async fn profile(&self, user_id: &UserId) -> Result<UserProfile> {
        if self.is_local(user_id) { self.local_profile(user_id).await } else { self.remote_profile(user_id).await }
    }

    /// The profile of a local user.
    pub async fn local_profile(&self, user_id: &UserId) -> Result<UserProfile> {
        let mut profile = if self.is_local(user_id) { self.storage().profile(user_id).await? } else { None };
        if profile.is_none() && self.is_local(user_id) && self.ask_services_for_user(user_id).await? {
            profile = self.storage().profile(user_id).await?;
        }
        let profile = profile.ok_or_else(|| EngineError::not_found("Profile not found"))?;
        let fields = self.storage().profile_fields(user_id).await?.into_iter();
        let fields = fields.map(|field| {
            let value = serde_json::from_str(field.value.get()).map_err(EngineError::internal)?;
            Ok((field.name, value))
        });
        let fields = fields.collect::<Result<_>>()?;
        Ok(UserProfile { display_name: profile.display_name, avatar_url: profile.avatar_url, fields })
    }

    /// Sets a field of any name. Display name and avatar show in all rooms.
    pub async fn set_profile_field(&self, requester: &Requester, name: &str, value: Value) -> Result<()> {
        match (name, value) {
            ("displayname", value) => self.set_display_name(requester, text_or_null(value)?).await,
            ("avatar_url", value) => self.set_avatar_url(requester, text_or_null(value)?).await,
            (name, value) => self.set_other_field(&requester.user_id, name, value).await,
        }
    }

    async fn set_other_field(&self, user_id: &UserId, name: &str, value: Value) -> Result<()> {
        check_field_name(name)?;
        if name == "m.tz" && !value.as_str().is_some_and(is_time_zone) {
            return Err(EngineError::invalid_param("m.tz must be the name of a time zone such as Europe/London"));
        }
        let json = serde_json::value::to_raw_value(&value).map_err(EngineError::internal)?;
        // Of two at the same time the second is to count what the first has set.
        let _lock = self.inner.accounts.profile_locks.lock(user_id.as_str()).await;
        let mut profile = self.local_profile(user_id).await?;
        profile.fields.insert(name.to_owned(), value);
        if profile.bytes() > PROFILE_BYTES_MAX {
            let text = format!("A profile must not be larger than {PROFILE_BYTES_MAX} bytes");
            return Err(EngineError::ProfileTooLarge(text));
        }
        Ok(self.storage().set_profile_field(user_id, name, &json).await?)
    }

    /// Takes a field away, if it is there.
    pub async fn delete_profile_field(&self, requester: &Requester, name: &str) -> Result<()> {
        match name {
            "displayname" => self.set_display_name(requester, None).await,
            "avatar_url" => self.set_avatar_url(requester, None).await,
            name => {
                check_field_name(name)?;
                Ok(self.storage().delete_profile_field(&requester.user_id, name).await?)
            }
        }
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
    pub(super) async fn refresh_member_events(&self, user_id: &UserId) -> Result<()> {
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

fn text_or_null(value: Value) -> Result<Option<String>> {
    match value {
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        _ => Err(EngineError::BadJson("The value of this field must be text".to_owned())),
    }
}

/// The grammar of namespaced identifiers: <https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar>
fn check_field_name(name: &str) -> Result<()> {
    if name.len() > FIELD_NAME_BYTES_MAX {
        let text = format!("The name of a profile field must not be longer than {FIELD_NAME_BYTES_MAX} bytes");
        return Err(EngineError::KeyTooLarge(text));
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(EngineError::invalid_param("The name of a profile field starts with a-z and has only a-z, 0-9 and ._-"))
}

/// Whether it looks like a name of the IANA time zone database. Which there are changes several times a year.
fn is_time_zone(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_follow_the_grammar() {
        for name in ["m.tz", "org.example.field", "a", "com.example.a_b-c9"] {
            assert!(check_field_name(name).is_ok(), "{name:?}");
        }
        for name in ["", "M.tz", ".a", "9a", "a b", "a\0", "a/b", "\u{e9}"] {
            assert!(matches!(check_field_name(name), Err(EngineError::InvalidParam(_))), "{name:?}");
        }
        assert!(matches!(check_field_name(&"a".repeat(256)), Err(EngineError::KeyTooLarge(_))));
    }

    #[test]
    fn time_zones_look_like_time_zones() {
        for zone in ["Europe/London", "UTC", "Etc/GMT+5", "America/Port-au-Prince", "America/Argentina/Buenos_Aires"] {
            assert!(is_time_zone(zone), "{zone}");
        }
        for zone in ["", "Europe London", "<script>", &"a".repeat(65)] {
            assert!(!is_time_zone(zone), "{zone}");
        }
    }

    #[test]
    fn fields_are_measured_in_bytes() {
        assert!(check_field(None, "It", 256).is_ok());
        assert!(check_field(Some(&"\u{e9}".repeat(128)), "It", 256).is_ok());
        let too_long = check_field(Some(&"\u{e9}".repeat(129)), "It", 256);
        assert!(matches!(too_long, Err(EngineError::TooLarge(_))));
        assert!(matches!(check_field(Some("a\0"), "It", 256), Err(EngineError::InvalidParam(_))));
    }
}
