//! The registration: the file by which a homeserver and this service know each other, and the home of both tokens.
//! <https://spec.matrix.org/v1.19/application-service-api/#registration>

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rules::world::World;

use crate::configuration::Configuration;
use crate::names::PROTOCOL;

/// Characters of a token, each worth almost 6 bits.
const TOKEN_LENGTH: usize = 48;

/// The secrets between the homeserver and us. They have no way to be printed.
#[derive(Clone)]
pub struct Tokens {
    /// What we show to the homeserver.
    pub(crate) as_token: String,
    /// What it shows to us.
    pub(crate) hs_token: String,
}

/// Why there is no registration.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The file cannot be read or written.
    #[error("cannot use the registration {0}: {1}; `nudge-aibots registration` writes it")]
    File(PathBuf, std::io::Error),
    /// A token is not in it.
    #[error("the registration {0} has no `{1}`; remove it and let `nudge-aibots registration` write it anew")]
    Token(PathBuf, &'static str),
}

impl Tokens {
    /// New ones.
    pub fn new(world: &World) -> Self {
        Self { as_token: world.random_string(TOKEN_LENGTH), hs_token: world.random_string(TOKEN_LENGTH) }
    }

    /// Those of a registration that was written.
    pub fn read(path: &Path) -> Result<Self, RegistrationError> {
        let text = std::fs::read_to_string(path).map_err(|error| RegistrationError::File(path.to_owned(), error))?;
        let token = |name: &'static str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = value.map(|value| value.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| RegistrationError::Token(path.to_owned(), name))
        };
        Ok(Self { as_token: token("as_token")?, hs_token: token("hs_token")? })
    }
}

/// The text of the registration.
pub fn text(configuration: &Configuration, tokens: &Tokens) -> String {
    let service = &configuration.service;
    let url = service.url.as_ref().map_or_else(|| format!("http://{}", service.listen), ToString::to_string);
    let mut text = String::from("# The homeserver reads this file; both tokens in it are secrets.\n");
    for (name, value) in [
        ("id", service.id.as_str()),
        ("url", url.trim_end_matches('/')),
        ("as_token", &tokens.as_token),
        ("hs_token", &tokens.hs_token),
        ("sender_localpart", &service.sender_localpart),
    ] {
        line(&mut text, name, value);
    }
    text.push_str("rate_limited: false\n");
    writeln!(text, "protocols: [{}]", quoted(PROTOCOL)).expect("a text can be written to");
    text.push_str("namespaces:\n  users:\n");
    for bot in &configuration.bots {
        let regex = escaped(&configuration.user_id(&bot.localpart));
        writeln!(text, "    - exclusive: true\n      regex: {}", quoted(&regex)).expect("a text can be written to");
    }
    text.push_str("  aliases: []\n  rooms: []\n");
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "{name}: {}", quoted(value)).expect("a text can be written to");
}

/// JSON's texts are YAML's, too.
fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

fn escaped(text: &str) -> String {
    let mut regex = String::new();
    for character in text.chars() {
        if !character.is_ascii_alphanumeric() && !"@:_-/=".contains(character) {
            regex.push('\\');
        }
        regex.push(character);
    }
    regex
}

/// Writes the registration, for nobody but us to read. Tokens of one that is there are kept.
pub fn write(configuration: &Configuration, world: &World) -> Result<PathBuf, RegistrationError> {
    let path = configuration.registration_file();
    let failed = |error| RegistrationError::File(path.clone(), error);
    let tokens = if path.exists() { Tokens::read(&path)? } else { Tokens::new(world) };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        crate::system::make_private_folder(folder).map_err(failed)?;
    }
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(text(configuration, &tokens).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::{Tokens, escaped, write};
    use crate::configuration::{Configuration, ServiceSettings};

    #[test]
    fn tokens_are_kept_when_the_registration_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let service = ServiceSettings { data_dir: folder.path().join("data"), ..ServiceSettings::default() };
        let url = Url::parse("http://127.0.0.1:8008").unwrap();
        let configuration = Configuration::offline(url, "example.org".to_owned(), service).unwrap();
        let world = crate::system::world();
        let path = write(&configuration, &world).unwrap();
        let (before, text) = (Tokens::read(&path).unwrap(), std::fs::read_to_string(&path).unwrap());
        write(&configuration, &world).unwrap();
        let after = Tokens::read(&path).unwrap();
        assert!(before.as_token == after.as_token && before.hs_token == after.hs_token);
        assert!(before.as_token != before.hs_token && before.as_token.len() == super::TOKEN_LENGTH);
        assert!(text.contains("@casual-friend:example\\\\.org"), "{text}");
    }

    #[test]
    fn names_are_taken_literally() {
        assert_eq!(escaped("@a.b:x.org"), "@a\\.b:x\\.org");
    }
}
