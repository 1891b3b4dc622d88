//! Which names a new user may have.
//!
//! Users of application services, and those from before the grammar was tightened, may have others; they can log in.
//! <https://spec.matrix.org/v1.19/appendices/#user-identifiers>

use ruma::{OwnedUserId, ServerName, UserId};

use crate::{EngineError, Result};

/// The longest user id, in bytes, with sigil and server name.
const USER_ID_BYTES_MAX: usize = 255;

/// The user id of a new user of that name.
pub(super) fn new_user_id(username: &str, server_name: &ServerName) -> Result<OwnedUserId> {
    check(username, server_name)?;
    UserId::parse_with_server_name(username, server_name)
        .map_err(|error| EngineError::InvalidUsername(error.to_string()))
}

/// Whether a new user may have that name.
pub(super) fn check(username: &str, server_name: &ServerName) -> Result<()> {
    if username.starts_with('_') {
        return Err(EngineError::InvalidUsername("User ID must not begin with _".to_owned()));
    }
    check_of_service(username, server_name)
}

/// Whether a new user of an application service may have that name.
pub(crate) fn check_of_service(username: &str, server_name: &ServerName) -> Result<()> {
    let refuse = |text: &str| Err(EngineError::InvalidUsername(text.to_owned()));
    if username.is_empty() {
        return refuse("User ID must not be empty");
    }
    if !username.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+'))
    {
        return refuse("User ID can only contain characters a-z, 0-9, or '._=-/+'");
    }
    if "@".len() + username.len() + ":".len() + server_name.as_str().len() > USER_ID_BYTES_MAX {
        return refuse("User ID must not be longer than 255 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn names_that_new_users_may_have() {
        let longest = "a".repeat(255 - "@:example.org".len());
        for name in ["a", "alice", "12345", "a._=-/+z", "-", "=40", &longest] {
            let user_id = new_user_id(name, server_name!("example.org")).expect(name);
            assert_eq!(user_id.localpart(), name);
            assert_eq!(user_id.server_name(), "example.org");
        }
    }

    #[test]
    fn names_that_new_users_may_not_have() {
        let too_long = "a".repeat(256 - "@:example.org".len());
        let names = ["", "_alice", "_", "Alice", "@alice", "@alice:example.org", "alice:evil.example", "a b", "a\nb"];
        let others = ["a\0", "\u{e9}", "a!", "a\"", "a?", "a\\", "a[", "a]", "a{", "a|", "a}", "a'", "a,b", &too_long];
        for name in names.into_iter().chain(others) {
            let refused = new_user_id(name, server_name!("example.org"));
            assert!(matches!(refused, Err(EngineError::InvalidUsername(_))), "{name:?}");
        }
    }
}
