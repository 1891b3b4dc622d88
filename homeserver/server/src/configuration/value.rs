//! The kinds of values that settings take, and how each is read from TOML, from an environment variable or from a flag.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};
use tracing_subscriber::EnvFilter;

use super::network::Network;

/// A value as somebody wrote it.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    /// From the environment, from a flag, or a default: text, in which lists are separated by commas.
    Text(String),
    /// From the configuration file.
    Toml(toml::Value),
}

impl Raw {
    /// The value as the operator knows it, for messages.
    pub(super) fn seen(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Toml(value) => value.to_string(),
        }
    }

    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Toml(toml::Value::String(text)) => Ok(text.trim()),
            Self::Toml(_) => Err("write it as text in quotes".to_owned()),
        }
    }

    fn list(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::Text(text) => Ok(parts(text).map(|part| Self::Text(part.to_owned())).collect()),
            Self::Toml(toml::Value::Array(values)) => Ok(values.iter().cloned().map(Self::Toml).collect()),
            Self::Toml(_) => Err("write it as a list: [\"...\", \"...\"]".to_owned()),
        }
    }

    fn map(&self) -> Result<Vec<(String, Self)>, String> {
        const FORM: &str =
            "write it as a table: { \"name\" = \"value\" }, or NAME=VALUE,NAME=VALUE outside of the file";
        match self {
            Self::Text(text) => parts(text)
                .map(|part| {
                    let (name, value) = part.split_once('=').ok_or(FORM)?;
                    Ok((name.trim().to_owned(), Self::Text(value.trim().to_owned())))
                })
                .collect(),
            Self::Toml(toml::Value::Table(table)) => {
                Ok(table.iter().map(|(name, value)| (name.clone(), Self::Toml(value.clone()))).collect())
            }
            Self::Toml(_) => Err(FORM.to_owned()),
        }
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A kind of value.
pub(super) trait Value: Sized {
    /// What it looks like, for the reference and for messages.
    const SHAPE: &'static str;
    /// Whether it must never be shown.
    const SECRET: bool = false;

    /// Reads it, or says how it should be written.
    fn from_raw(raw: &Raw) -> Result<Self, String>;

    /// What it is when nobody set it; `None` when it has to be set.
    fn absent() -> Option<Self> {
        None
    }
}

/// The kinds of value that are one piece of text: name, shape, how to read it.
macro_rules! text_values {
    ($($kind:ty, $shape:literal, $read:expr;)+) => { $(
        impl Value for $kind {
            const SHAPE: &'static str = $shape;

            fn from_raw(raw: &Raw) -> Result<Self, String> {
                let read: fn(&str) -> Option<Self> = $read;
                raw.text().and_then(|text| read(text).ok_or_else(|| format!("write {}", Self::SHAPE)))
            }
        }
    )+ };
}

/// The part of a user id before the colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Localpart(pub String);

impl Localpart {
    fn read(text: &str) -> Option<Self> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
        (!text.is_empty() && text.len() <= 100 && text.bytes().all(is_fit)).then(|| Self(text.to_owned()))
    }
}

text_values! {
    String, "text", |text| (!text.is_empty()).then(|| text.to_owned());
    OwnedUserId, "a user id such as `@alice:example.org`", |text| text.try_into().ok();
    Localpart, "the part of a user id before the colon, such as `notices`", Localpart::read;
    OwnedServerName, "a server name such as `example.org` or `example.org:8448`", |text| text.try_into().ok();
    SocketAddr, "an address and port such as `127.0.0.1:8008` or `[::1]:8008`", |text| text.parse().ok();
    PathBuf, "a path", |text| (!text.is_empty()).then(|| text.into());
    RoomVersionId, "a room version such as `12`", |text| RoomVersionId::try_from(text).ok().filter(|id| id.rules().is_some());
    Network, "a network such as `10.0.0.0/8`, or one address", |text| text.parse().ok();
    Bytes, "a number of bytes such as `512 KiB`, `100 MiB` or `2 GiB`", |text| text.parse().ok();
    PageRule, "a host such as `example.org` or `example.org:8443`, or `*`", |text| text.parse().ok().map(Self);
    Lifetime, "a time span such as `90s`, `15m`, `12h` or `7d`", |text| text.parse().ok();
    WebAddress, "an address that starts with `https://` or `http://`", |text| text.parse().ok();
    Filter, "a filter such as `info` or `info,sqlx=warn`", |text| text.parse().ok();
}

impl Value for u16 {
    const SHAPE: &'static str = "a number from 1 to 65535";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let number = match raw {
            Raw::Toml(toml::Value::Integer(number)) => Self::try_from(*number).ok(),
            raw => raw.text()?.parse().ok(),
        };
        number.filter(|number| *number > 0).ok_or_else(|| format!("write {}", Self::SHAPE))
    }
}

impl Value for bool {
    const SHAPE: &'static str = "`true` or `false`; as a flag or variable also `on` or `off`";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Toml(toml::Value::Boolean(value)) => Ok(*value),
            Raw::Text(text) if ["true", "on"].contains(&text.as_str()) => Ok(true),
            Raw::Text(text) if ["false", "off"].contains(&text.as_str()) => Ok(false),
            _ => Err(format!("write {}", Self::SHAPE)),
        }
    }
}

impl<T: Value> Value for Option<T> {
    const SHAPE: &'static str = T::SHAPE;
    const SECRET: bool = T::SECRET;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        T::from_raw(raw).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A list of values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// Kinds of value that may stand in a list.
pub(super) trait Listed: Value {
    /// What the list looks like.
    const LIST_SHAPE: &'static str;
}

impl Listed for PathBuf {
    const LIST_SHAPE: &'static str = "a list of paths";
}
impl Listed for String {
    const LIST_SHAPE: &'static str = "a list of texts";
}
impl Listed for OwnedUserId {
    const LIST_SHAPE: &'static str = "a list of user ids";
}
impl Listed for Network {
    const LIST_SHAPE: &'static str = "a list of networks such as `[\"10.0.0.0/8\", \"::1\"]`";
}
impl Listed for PageRule {
    const LIST_SHAPE: &'static str = "a list of hosts such as `[\"example.org\"]`, or `[\"*\"]` for all";
}
impl Listed for OwnedServerName {
    const LIST_SHAPE: &'static str = "a list of server names";
}

impl<T: Listed> Value for List<T> {
    const SHAPE: &'static str = T::LIST_SHAPE;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.list()?.iter().map(T::from_raw).collect::<Result<_, _>>().map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

/// Which address to use for a server name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(pub BTreeMap<OwnedServerName, SocketAddr>);

impl Value for Overrides {
    const SHAPE: &'static str =
        "a table from server name to address and port, such as `{ \"hs2\" = \"127.0.0.2:8448\" }`";

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let entry = |(name, address): (String, Raw)| {
            let name =
                OwnedServerName::from_raw(&Raw::Text(name.clone())).map_err(|how| format!("{how}, not {name:?}"))?;
            Ok((name, SocketAddr::from_raw(&address)?))
        };
        raw.map()?.into_iter().map(entry).collect::<Result<_, String>>().map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Value for Secret {
    const SHAPE: &'static str = "text";
    const SECRET: bool = true;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        raw.text().map(|text| Self(text.to_owned()))
    }
}

/// The URL of a database, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The database in a file.
    pub fn sqlite(path: &std::path::Path) -> Self {
        Self(format!("sqlite:{}", path.display()))
    }

    /// The URL itself, with its password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The password in it.
    pub fn password(&self) -> Option<&str> {
        let authority = self.0.split_once("://")?.1.split(['/', '?']).next()?;
        authority.rsplit_once('@')?.0.split_once(':').map(|(_, password)| password)
    }

    /// The file, where the database is one.
    pub fn sqlite_file(&self) -> Option<PathBuf> {
        let rest = self.0.strip_prefix("sqlite:")?;
        let rest = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
        (rest != ":memory:").then(|| rest.into())
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.password() {
            Some(password) => formatter.write_str(&self.0.replacen(&format!(":{password}@"), ":***@", 1)),
            None => formatter.write_str(&self.0),
        }
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Value for DatabaseUrl {
    const SHAPE: &'static str = "`sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`";
    const SECRET: bool = true;

    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
        if known { Ok(Self(text.to_owned())) } else { Err(format!("write {}", Self::SHAPE)) }
    }
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl FromStr for Lifetime {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(())?;
        let unit_seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(()),
        };
        let seconds = number.parse::<u32>().ok().filter(|number| *number > 0).ok_or(())?;
        Ok(Self(Duration::from_secs(u64::from(seconds) * unit_seconds)))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit_bytes = match unit.trim_start() {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(()),
        };
        let number = number.parse::<u32>().ok().filter(|number| *number > 0).ok_or(())?;
        u64::from(number).checked_mul(unit_bytes).map(Self).ok_or(())
    }
}

/// Pages that may be fetched, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRule(pub media::preview::HostRule);

/// The address of a website, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress(pub String);

impl FromStr for WebAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(())?;
        let uri = text.parse::<http::Uri>().map_err(|_| ())?;
        if host.is_empty() || uri.host().is_none() { Err(()) } else { Ok(Self(text.trim_end_matches('/').to_owned())) }
    }
}

/// What is logged: a filter in the notation of `tracing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(pub String);

impl FromStr for Filter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        EnvFilter::try_new(text).map(|_| Self(text.to_owned())).map_err(|_| ())
    }
}

/// Enums whose variants are words: name, shape, the words.
macro_rules! choices {
    ($($(#[$attribute:meta])* $kind:ident, $shape:literal { $($(#[$variant_attribute:meta])* $variant:ident = $word:literal),+ $(,)? })+) => { $(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[$variant_attribute])* $variant),+ }

        impl Value for $kind {
            const SHAPE: &'static str = $shape;

            fn from_raw(raw: &Raw) -> Result<Self, String> {
                match raw.text()? {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("write {}", Self::SHAPE)),
                }
            }
        }
    )+ };
}

choices! {
    /// Who may register.
    RegistrationMode, "`open`, `token` or `closed`" {
        /// Everybody.
        Open = "open",
        /// Whoever has a registration token.
        Token = "token",
        /// Nobody.
        Closed = "closed",
    }
    /// How the connection to the mail server is protected.
    MailSecurity, "`tls`, `starttls` or `none`" {
        /// TLS from the start.
        Tls = "tls",
        /// TLS after STARTTLS.
        StartTls = "starttls",
        /// Not at all.
        None = "none",
    }
    /// How the tokens of another service are signed.
    JwtAlgorithm, "`HS256`, `HS384` or `HS512`" {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
    }
    /// What a power loss may take.
    Durability, "`full` or `relaxed`" {
        /// Nothing that was acknowledged.
        Full = "full",
        /// The last moments.
        Relaxed = "relaxed",
    }
    /// How log lines look.
    LogFormat, "`human` or `json`" {
        /// For eyes.
        Human = "human",
        /// One JSON object in each line.
        Json = "json",
    }
    /// How much work it is to guess a password from its hash.
    PasswordHashing, "`strong` or `cheap`" {
        /// As much as OWASP recommends.
        Strong = "strong",
        /// Hardly any.
        Cheap = "cheap",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_database_url_is_not_shown() {
        let url = DatabaseUrl("postgres://nudge:hunter2@db.example/nudge".to_owned());
        assert_eq!(url.password(), Some("hunter2"));
        assert_eq!(format!("{url:?}"), "postgres://nudge:***@db.example/nudge");
    }

    #[test]
    fn database_files_are_found() {
        let file = |url: &str| DatabaseUrl(url.to_owned()).sqlite_file();
        assert_eq!(file("sqlite:nudge-data/nudge.db"), Some("nudge-data/nudge.db".into()));
        assert_eq!(file("sqlite:///var/lib/nudge.db?mode=rwc"), Some("/var/lib/nudge.db".into()));
        assert_eq!(file("sqlite::memory:"), None);
        assert_eq!(file("postgres://localhost/nudge"), None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("100 MiB".parse(), Ok(Bytes(104_857_600)));
        assert_eq!("2GiB".parse(), Ok(Bytes(2_147_483_648)));
        for wrong in ["", "100", "MiB", "0 MiB", "-1 MiB", "1.5 GiB", "1 MB"] {
            assert_eq!(wrong.parse::<Bytes>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn lifetimes_have_units() {
        assert_eq!("90s".parse(), Ok(Lifetime(Duration::from_secs(90))));
        assert_eq!("7d".parse(), Ok(Lifetime(Duration::from_hours(7 * 24))));
        for wrong in ["", "7", "d", "0h", "-1h", "1.5h", "1\u{e9}"] {
            assert_eq!(wrong.parse::<Lifetime>(), Err(()), "{wrong:?}");
        }
    }
}
