//! What an operator can set: one TOML file. Secrets are not in it: they are in the registration, and the keys of
//! providers in the environment or in files of their own.

mod personalities;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::budget::DailyTokens;
use crate::providers::{ANSWERS_AT_ONCE, Kind, ProviderSettings};
use crate::tools::{ToolLimits, ToolServerSettings};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The homeserver.
    pub homeserver: HomeserverSettings,
    /// This program.
    #[serde(default)]
    pub service: ServiceSettings,
    /// How bots converse.
    #[serde(default)]
    pub conversation: ConversationSettings,
    /// Who completes conversations, by names of the operator's choice. `offline` is always there.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Functions that models may call, in rooms that permit it.
    #[serde(default)]
    pub tools: BTreeMap<String, ToolServerSettings>,
    /// How much one answer may use of them.
    #[serde(default)]
    pub tool_limits: ToolLimits,
    /// The bots. Three personalities where none is given.
    #[serde(default)]
    pub bots: Vec<BotSettings>,
    /// Whose words the three personalities speak with.
    #[serde(default)]
    pub default_provider: Option<String>,
}

/// What is left to configure inside a homeserver.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    #[serde(default)]
    conversation: ConversationSettings,
    #[serde(default)]
    providers: BTreeMap<String, ProviderSettings>,
    #[serde(default)]
    tools: BTreeMap<String, ToolServerSettings>,
    #[serde(default)]
    tool_limits: ToolLimits,
    #[serde(default)]
    bots: Vec<BotSettings>,
    #[serde(default)]
    default_provider: Option<String>,
}

/// Which homeserver this is the service of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeserverSettings {
    /// Where its client API is.
    pub url: Url,
    /// Its name, the part after the colon of its users' ids.
    pub server_name: String,
}

/// How the homeserver reaches us, and where our data is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSettings {
    /// Where to listen for the homeserver.
    pub listen: SocketAddr,
    /// How the homeserver reaches that, if not as `http://` and `listen`.
    pub url: Option<Url>,
    /// Where to show metrics, at `/metrics`, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The id of the service at the homeserver.
    pub id: String,
    /// The localpart of the service's own user, which says nothing.
    pub sender_localpart: String,
    /// The folder of our data.
    pub data_dir: PathBuf,
    /// The registration, if it is not `registration.yaml` in the folder of our data.
    pub registration_file: Option<PathBuf>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 29_317)),
            url: None,
            metrics_listen: None,
            id: "nudge-aibots".to_owned(),
            sender_localpart: "nudge-aibots".to_owned(),
            data_dir: PathBuf::from("aibots-data"),
            registration_file: None,
        }
    }
}

/// How bots converse.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct ConversationSettings {
    /// At most so many replies a minute in one room, of all bots together.
    pub replies_per_minute: usize,
    /// And to one user, in whatever room.
    pub replies_per_minute_to_user: Option<usize>,
    /// And by one bot, in whatever room.
    pub replies_per_minute_of_bot: Option<usize>,
    /// At most so many requests to one provider at the same time.
    pub answers_at_once: usize,
    /// At most so many messages of a room are told to a model.
    pub history_messages: usize,
    /// At most so many tokens of an answer.
    pub answer_tokens: u32,
    /// Bots leave rooms with more members than this.
    pub members_max: usize,
    /// Other homeservers whose users may invite bots and are answered by them; `*` is all of them.
    pub allowed_servers: BTreeSet<String>,
    /// Whether bots have devices, and can read encrypted rooms.
    pub encryption: bool,
    /// Whether an answer is shown while it grows.
    pub show_growth: bool,
    /// Tokens that may be used in a day.
    pub daily_tokens: DailyTokens,
    /// Whether there is a public room in which bots can be found, `#ai-buddies`.
    pub lobby: bool,
    /// Whether answers are notices, which clients show quietly.
    pub answer_with_notices: bool,
}

impl Default for ConversationSettings {
    fn default() -> Self {
        Self {
            replies_per_minute: 10,
            replies_per_minute_to_user: None,
            replies_per_minute_of_bot: None,
            answers_at_once: ANSWERS_AT_ONCE,
            history_messages: 50,
            answer_tokens: 200,
            members_max: 200,
            allowed_servers: BTreeSet::new(),
            encryption: true,
            show_growth: true,
            daily_tokens: DailyTokens::default(),
            lobby: true,
            answer_with_notices: false,
        }
    }
}

/// A bot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotSettings {
    /// Its localpart.
    pub localpart: String,
    /// Its name.
    pub name: String,
    /// One line about it, shown with its presence.
    #[serde(default)]
    pub tagline: String,
    /// The colour of its picture, `#rrggbb`.
    #[serde(default = "default_colour")]
    pub colour: String,
    /// A PNG file to show instead.
    #[serde(default)]
    pub avatar_file: Option<PathBuf>,
    /// Who it is and how it behaves, told to the model.
    pub prompt: String,
    /// Which provider speaks for it.
    pub provider: String,
    /// The model, by the provider's name for it.
    #[serde(default)]
    pub model: String,
    /// The model to ask when that one fails.
    #[serde(default)]
    pub fallback_model: Option<String>,
    /// How freely the model chooses its words, 0 to 2.
    #[serde(default = "default_temperature")]
    pub temperature: f32,
    /// Whether it is given pictures. Where nothing is said, what is known of the model counts.
    #[serde(default)]
    pub vision: Option<bool>,
}

fn default_colour() -> String {
    "#0066cc".to_owned()
}

fn default_temperature() -> f32 {
    0.8
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is not TOML of the right form.
    #[error("{0}: {1}")]
    Form(PathBuf, toml::de::Error),
    /// A value cannot be used.
    #[error("`{setting}` {reason}")]
    Value {
        /// Which.
        setting: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// The provider that needs nothing.
pub(crate) const OFFLINE: &str = "offline";

impl Configuration {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigurationError::Read(path.to_owned(), error))?;
        let configuration = toml::from_str(&text).map_err(|error| ConfigurationError::Form(path.to_owned(), error))?;
        Self::completed(configuration)
    }

    /// Reads a file for a homeserver that runs the bots inside itself, and knows itself who it is and where.
    pub fn read_inside(
        path: &Path,
        url: Url,
        server_name: String,
        service: ServiceSettings,
    ) -> Result<Self, ConfigurationError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigurationError::Read(path.to_owned(), error))?;
        let inside: Inside = toml::from_str(&text).map_err(|error| ConfigurationError::Form(path.to_owned(), error))?;
        let Inside { conversation, providers, tools, tool_limits, bots, default_provider } = inside;
        let homeserver = HomeserverSettings { url, server_name };
        Self::completed(Self {
            homeserver,
            service,
            conversation,
            providers,
            tools,
            tool_limits,
            bots,
            default_provider,
        })
    }

    /// Three buddies that need neither a key nor a network, for a homeserver that runs them inside itself.
    pub fn offline(url: Url, server_name: String, service: ServiceSettings) -> Result<Self, ConfigurationError> {
        Self::completed(Self {
            homeserver: HomeserverSettings { url, server_name },
            service,
            conversation: ConversationSettings::default(),
            providers: BTreeMap::new(),
            tools: BTreeMap::new(),
            tool_limits: ToolLimits::default(),
            bots: Vec::new(),
            default_provider: None,
        })
    }

    /// Fills in what was left out, and checks the rest.
    pub fn completed(mut self) -> Result<Self, ConfigurationError> {
        self.providers.entry(OFFLINE.to_owned()).or_insert_with(|| ProviderSettings::of(Kind::Offline));
        let default = self.default_provider.clone().unwrap_or_else(|| OFFLINE.to_owned());
        if self.bots.is_empty() {
            let kind = self.providers.get(&default).map(|provider| provider.kind);
            self.bots = personalities::three(&default, kind == Some(Kind::OpenRouter));
        }
        self.check()?;
        Ok(self)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        let wrong =
            |setting: String, reason: &str| Err(ConfigurationError::Value { setting, reason: reason.to_owned() });
        let mut localparts = BTreeSet::new();
        for (index, bot) in self.bots.iter().enumerate() {
            let setting = |name: &str| format!("bots[{index}].{name}");
            if !is_localpart(&bot.localpart) {
                return wrong(setting("localpart"), "must be of a-z, 0-9 and . _ = - / only");
            }
            if !localparts.insert(&bot.localpart) || bot.localpart == self.service.sender_localpart {
                return wrong(setting("localpart"), "is there twice");
            }
            let Some(provider) = self.providers.get(&bot.provider) else {
                return wrong(setting("provider"), "names no provider; add a section [providers.NAME]");
            };
            if bot.model.is_empty() && provider.kind != Kind::Offline {
                return wrong(setting("model"), "is missing");
            }
            if !(0.0..=2.0).contains(&bot.temperature) {
                return wrong(setting("temperature"), "must be between 0 and 2");
            }
            if crate::avatar::colour(&bot.colour).is_none() {
                return wrong(setting("colour"), "must be of the form #rrggbb");
            }
        }
        let conversation = &self.conversation;
        let more = [conversation.replies_per_minute_to_user, conversation.replies_per_minute_of_bot];
        if conversation.replies_per_minute == 0 || conversation.answers_at_once == 0 || more.contains(&Some(0)) {
            return wrong("conversation".to_owned(), "allows no reply; use `!ai mode off` in rooms instead");
        }
        if !is_localpart(&self.service.sender_localpart) {
            return wrong("service.sender_localpart".to_owned(), "must be of a-z, 0-9 and . _ = - / only");
        }
        Ok(())
    }

    /// Whether a user is of a homeserver whose users may talk with bots.
    pub(crate) fn is_allowed(&self, user_id: &str) -> bool {
        let server = user_id.split_once(':').map_or("", |(_, server)| server);
        server == self.homeserver.server_name
            || self.conversation.allowed_servers.iter().any(|allowed| allowed == "*" || allowed == server)
    }

    /// The id of a user of this service.
    pub fn user_id(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.homeserver.server_name)
    }

    /// Where the registration is.
    pub fn registration_file(&self) -> PathBuf {
        self.service.registration_file.clone().unwrap_or_else(|| self.service.data_dir.join("registration.yaml"))
    }
}

fn is_localpart(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/".contains(&byte);
    !text.is_empty() && text.len() <= 200 && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests;
