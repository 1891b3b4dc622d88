//! The configuration: flags over environment over file over defaults, all from one table of settings.

mod check;
mod layers;
mod network;
mod problem;
mod reference;
mod settings;
mod value;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use self::layers::Layers;
pub use self::{
    layers::FILE_VARIABLE,
    network::Network,
    problem::{Origin, Problem, Problems},
    reference::{example, page as reference_page},
    settings::{Configuration, Flag, SETTINGS, Setting},
    value::{
        Bytes, DatabaseUrl, Durability, Filter, JwtAlgorithm, Lifetime, List, LogFormat, MailSecurity, Overrides,
        PageRule, PasswordHashing, RegistrationMode, Secret, WebAddress,
    },
};

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// The environment's variables; those that do not start with `NUDGE_` are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags given, by key.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub configuration: Configuration,
    /// The file they came from; without one, the defaults are those for development.
    pub file: Option<PathBuf>,
    /// What the operator should know about the outcome.
    pub notices: Vec<String>,
}

/// Reads all sources, and reports everything that is wrong at once.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut problems = Problems::default();
    let mut layers = Layers::default();
    if let Some(path) = &sources.file {
        layers.add_file(path, &mut problems)?;
    }
    layers.add_environment(&sources.environment, &mut problems);
    layers.add_flags(&sources.flags);
    let mut notices = Vec::new();
    if sources.file.is_none() {
        add_development_defaults(&mut layers, &mut notices);
    }
    let configuration = Configuration::read(&layers, &mut problems).map(|mut configuration| {
        check::check(&mut configuration, &layers, &mut problems);
        configuration
    });
    match configuration {
        Some(configuration) if problems.0.is_empty() => {
            notices.extend(warnings(&configuration));
            Ok(Loaded { configuration, file: sources.file.clone(), notices })
        }
        _ => Err(problems),
    }
}

/// Without a file somebody is trying the server out, and nobody but this machine can connect: so anybody may register.
fn add_development_defaults(layers: &mut Layers, notices: &mut Vec<String>) {
    let mut ignored = Problems::default();
    let listen = layers.read::<SocketAddr>("listen", "127.0.0.1:8008", &mut ignored);
    let private = listen.is_none_or(|address| address.ip().is_loopback());
    if !layers.is_set("registration.mode") {
        layers.add_default("registration.mode", if private { "open" } else { "closed" });
        if !private {
            notices.push(
                "registration is closed, because others can connect to the address given by --listen; \
                 open it with --registration open|token, or use nudge user create"
                    .to_owned(),
            );
        }
    }
    if private && !layers.is_set("bots.enabled") {
        layers.add_default("bots.enabled", "true");
    }
    for (key, value) in [("server_name", "localhost"), ("federation.allow_private_addresses", "127.0.0.0/8,::1")] {
        if !layers.is_set(key) {
            layers.add_default(key, value);
        }
    }
}

fn warnings(configuration: &Configuration) -> Vec<String> {
    let cheap = configuration.accounts_password_hashing == PasswordHashing::Cheap;
    let relaxed = configuration.database_durability == Durability::Relaxed;
    let unlimited = !configuration.rate_limits_enabled && !configuration.listen.ip().is_loopback();
    let warnings = [
        (cheap, "accounts.password_hashing is \"cheap\": passwords can be guessed from their hashes; for tests only"),
        (relaxed, "database.durability is \"relaxed\": a power loss may take messages that were acknowledged"),
        (unlimited, "rate_limits.enabled is false: nothing slows down whoever guesses passwords; for tests only"),
    ];
    warnings.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()).collect()
}

impl Configuration {
    /// The database: the one configured, or the file in the data folder.
    pub fn database(&self) -> DatabaseUrl {
        self.database_url.clone().unwrap_or_else(|| DatabaseUrl::sqlite(&self.data_dir.join("nudge.db")))
    }
}
