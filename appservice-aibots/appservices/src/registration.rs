//! Registration files, as bridges write them.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/#registration>

use reqwest::Url;
use ruma::{OwnedUserId, ServerName, UserId};
use serde::Deserialize;

use crate::Namespace;

/// More than this is no registration file.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The longest token that a request may carry.
const TOKEN_BYTES_MAX: usize = 512;

/// What is wrong with a registration file, for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistrationError(pub String);

/// What a registration file says.
#[derive(Clone)]
pub struct Registration {
    /// The name of the service, which never changes.
    pub id: String,
    /// Where the service is reached; `None` if it wants to hear nothing.
    pub url: Option<Url>,
    /// By which the service shows who it is.
    pub as_token: String,
    /// By which we show the service who we are.
    pub hs_token: String,
    /// The service's own user.
    pub sender: OwnedUserId,
    /// Its users.
    pub users: Vec<Namespace>,
    /// Its aliases.
    pub aliases: Vec<Namespace>,
    /// Its rooms.
    pub rooms: Vec<Namespace>,
    /// Whether its users, but for its own one, are told to wait like others.
    pub rate_limited: bool,
    /// Whether it wants to hear of typing, receipts and presence.
    pub receives_ephemeral: bool,
    /// Whether it wants to be sent what its users' devices need for encryption (MSC3202, MSC4203).
    pub receives_encryption: bool,
    /// The networks that it bridges to.
    pub protocols: Vec<String>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the tokens.
        formatter
            .debug_struct("Registration")
            .field("id", &self.id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// The file. Keys that are not here are for others.
#[derive(Deserialize)]
struct File {
    id: String,
    #[serde(default)]
    url: Option<String>,
    as_token: String,
    hs_token: String,
    sender_localpart: String,
    #[serde(default)]
    namespaces: Namespaces,
    rate_limited: Option<bool>,
    receive_ephemeral: Option<bool>,
    push_ephemeral: Option<bool>,
    #[serde(rename = "de.sorunome.msc2409.push_ephemeral")]
    push_ephemeral_msc2409: Option<bool>,
    #[serde(rename = "org.matrix.msc3202")]
    msc3202: Option<bool>,
    protocols: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Namespaces {
    users: Option<Vec<Pattern>>,
    aliases: Option<Vec<Pattern>>,
    rooms: Option<Vec<Pattern>>,
}

#[derive(Deserialize)]
struct Pattern {
    regex: String,
    #[serde(default)]
    exclusive: bool,
}

impl Registration {
    /// Reads a registration for the server of that name.
    pub fn parse(text: &str, server_name: &ServerName) -> Result<Self, RegistrationError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(refuse("it is too large for a registration file"));
        }
        let file: File = serde_saphyr::from_str(text).map_err(|error| refuse(first_line(&error.to_string())))?;
        if file.id.is_empty() || file.id.contains('\0') {
            return Err(refuse("id: it is empty, or holds what no id can hold"));
        }
        check_token("as_token", &file.as_token)?;
        check_token("hs_token", &file.hs_token)?;
        if file.as_token == file.hs_token {
            return Err(refuse(
                "as_token and hs_token are the same: whoever is called by us could speak as the service",
            ));
        }
        let receives_ephemeral = [file.receive_ephemeral, file.push_ephemeral, file.push_ephemeral_msc2409];
        Ok(Self {
            url: file.url.as_deref().filter(|url| !url.is_empty()).map(parse_url).transpose()?,
            sender: sender(&file.sender_localpart, server_name)?,
            users: patterns("users", file.namespaces.users)?,
            aliases: patterns("aliases", file.namespaces.aliases)?,
            rooms: patterns("rooms", file.namespaces.rooms)?,
            rate_limited: file.rate_limited.unwrap_or(true),
            receives_ephemeral: receives_ephemeral.contains(&Some(true)),
            receives_encryption: file.msc3202 == Some(true),
            protocols: file.protocols.unwrap_or_default(),
            id: file.id,
            as_token: file.as_token,
            hs_token: file.hs_token,
        })
    }
}

fn refuse(text: impl Into<String>) -> RegistrationError {
    RegistrationError(text.into())
}

/// What comes after the first line of an error draws the place in the file, with what may be a token.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn check_token(name: &str, token: &str) -> Result<(), RegistrationError> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refuse(format!("{name}: a token has 1 to {TOKEN_BYTES_MAX} characters, without spaces")));
    }
    Ok(())
}

fn parse_url(url: &str) -> Result<Url, RegistrationError> {
    let parsed = Url::parse(url).map_err(|error| refuse(format!("url: {url:?} is not a URL: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(refuse(format!("url: {url:?} does not start with http:// or https:// and a host")));
    }
    Ok(parsed)
}

fn sender(localpart: &str, server_name: &ServerName) -> Result<OwnedUserId, RegistrationError> {
    if localpart.is_empty() || localpart.contains([':', '@', '\0']) {
        let text = "it is the part of a user id between @ and :, such as _irc_bot";
        return Err(refuse(format!("sender_localpart: {localpart:?}: {text}")));
    }
    let sender = UserId::parse_with_server_name(localpart, server_name);
    sender.map_err(|error| refuse(format!("sender_localpart: {localpart:?}: {error}")))
}

fn patterns(kind: &str, patterns: Option<Vec<Pattern>>) -> Result<Vec<Namespace>, RegistrationError> {
    let compiled = patterns.unwrap_or_default().into_iter().map(|Pattern { regex, exclusive }| {
        Namespace::new(&regex, exclusive)
            .map_err(|error| refuse(format!("namespaces.{kind}: the pattern {regex:?} cannot be used: {error}")))
    });
    compiled.collect()
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::Registration;

    fn parse(text: &str) -> Result<Registration, String> {
        Registration::parse(text, server_name!("example.org")).map_err(|error| error.to_string())
    }

    #[test]
    fn as_bridges_write_them() {
        let heisenbridge = "id: heisenbridge\nurl: http://127.0.0.1:9898\nas_token: aaa\nhs_token: bbb\n\
            rate_limited: false\nsender_localpart: heisenbridge\nnamespaces:\n  users:\n  - regex: '@hbridge_.*'\n    \
            exclusive: true\n  aliases: []\n  rooms: []\n";
        let read = parse(heisenbridge).unwrap();
        assert_eq!((read.id.as_str(), read.sender.as_str()), ("heisenbridge", "@heisenbridge:example.org"));
        assert!(!read.rate_limited && !read.receives_ephemeral && read.users[0].is_exclusive());
        assert!(!format!("{read:?}").contains("aaa"));

        let mautrix = "id: telegram\nas_token: \"123\"\nhs_token: 1e5\nnamespaces:\n    users:\n    - exclusive: true\n      \
            regex: ^@telegram_.*:example\\.org$\n    - exclusive: true\n      regex: '@telegrambot:example\\.org'\n\
            sender_localpart: x9b\nurl: http://localhost:29317/base/\nrate_limited: false\n\
            de.sorunome.msc2409.push_ephemeral: true\nreceive_ephemeral: true\norg.matrix.msc3202: true\n\
            io.element.msc4190: true\n";
        let read = parse(mautrix).unwrap();
        assert!(read.receives_ephemeral && read.receives_encryption && read.aliases.is_empty());
        assert_eq!((read.as_token.as_str(), read.hs_token.as_str()), ("123", "1e5"));
        // Who only wants to make devices reads what is for them by sync.
        let by_sync = parse(&mautrix.replace("org.matrix.msc3202: true\n", "")).unwrap();
        assert!(!by_sync.receives_encryption);

        let irc = "id: 7\nhs_token: a\nas_token: b\nnamespaces:\n  users:\n    - exclusive: true\n      \
            regex: '@irc_.*:example.org'\n  aliases:\n    - {exclusive: false, regex: '#irc_.*:example.org'}\n  \
            rooms: null\nurl: null\nsender_localpart: ircbot\nrate_limited: false\nprotocols:\n  - irc\n\
            'de.sorunome.something_new': {a: [1, 2]}\n";
        let read = parse(irc).unwrap();
        assert_eq!((read.url, read.protocols, read.aliases.len()), (None, vec!["irc".to_owned()], 1));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let good = "id: a\nurl: http://a\nas_token: b\nhs_token: c\nsender_localpart: d\nnamespaces: {}\n";
        parse(good).unwrap();
        for (from, to, says) in [
            ("id: a\n", "", "id"),
            ("http://a", "localhost:1", "url"),
            ("http://a", "file:///etc/passwd", "url"),
            ("as_token: b", "as_token: ''", "as_token"),
            ("as_token: b", "as_token: c", "same"),
            ("as_token: b", "as_token: 'a b'", "as_token"),
            ("sender_localpart: d", "sender_localpart: '@d:example.org'", "sender_localpart"),
            ("namespaces: {}", "namespaces: {users: [{regex: '(', exclusive: true}]}", "namespaces.users"),
            ("namespaces: {}", "namespaces: {users: 3}", ""),
            ("id: a", "id: [", ""),
        ] {
            let error = parse(&good.replace(from, to)).unwrap_err();
            assert!(error.contains(says) && !error.is_empty(), "{to}: {error}");
        }
    }
}
