//! What an operator writes about a provider, and where its key is found.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use reqwest::Url;
use serde::Deserialize;

use super::models::ModelFacts;

/// Keys longer than this are a file named by mistake.
const KEY_BYTES_MAX: usize = 4096;

/// Whose interface a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `OpenRouter`.
    OpenRouter,
    /// `OpenAI`.
    OpenAi,
    /// Whatever else speaks `OpenAI`'s chat completions: Ollama, llama.cpp, vLLM, `LiteLLM`. Wants `base_url`; the key is
    /// optional.
    Compatible,
    /// Anthropic's messages.
    Anthropic,
    /// No model: simple rules in this program.
    Offline,
}

/// A provider as the configuration has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// Whose interface it speaks.
    pub kind: Kind,
    /// Where it is, up to and with the version: `http://localhost:11434/v1`. Each kind but `compatible` has its own.
    #[serde(default)]
    pub base_url: Option<Url>,
    /// The environment variable that holds the key. By default `OPENROUTER_API_KEY`, `OPENAI_API_KEY` or
    /// `ANTHROPIC_API_KEY`.
    #[serde(default)]
    pub key_env: Option<String>,
    /// A file that holds the key and nothing else; before `key_env`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The address of this service, told to `OpenRouter` as where requests come from.
    #[serde(default)]
    pub app_url: Option<String>,
    /// The name of this service, told to `OpenRouter`.
    #[serde(default = "default_app_title")]
    pub app_title: String,
    /// Whether answers are asked for piece by piece, so that they can be shown while they grow.
    #[serde(default = "default_streaming")]
    pub streaming: bool,
    /// How long the provider may say nothing, in seconds. Answers take at most twice as long. A model on a slow machine of
    /// one's own may want more.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: u16,
    /// What is special about a model, by its name.
    #[serde(default)]
    pub models: BTreeMap<String, ModelFacts>,
}

/// Why a provider cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProviderSetupError {
    /// A provider without an address.
    #[error("providers.{0}: `base_url` is missing; a provider of kind `compatible` needs it")]
    BaseUrlMissing(String),
    /// An address that nothing can be appended to, or not HTTP.
    #[error("providers.{0}: `base_url` must begin with http:// or https://")]
    BaseUrlUnusable(String),
    /// A key file that cannot be read.
    #[error("providers.{provider}: cannot read `key_file` {path}: {reason}")]
    KeyFile {
        /// Which provider.
        provider: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key that cannot stand in a header.
    #[error("providers.{0}: the key has characters that no key has, or is too long")]
    KeyUnusable(String),
}

/// A secret for a provider. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// A key, if it can be one: visible ASCII, not too long.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_usable =
            !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_usable.then(|| Self(text.to_owned()))
    }

    /// The secret itself, for a header and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

impl Kind {
    /// Where it is unless the operator says otherwise.
    fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenRouter => Some("https://openrouter.ai/api/v1"),
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Compatible | Self::Offline => None,
        }
    }

    fn default_key_env(self) -> Option<&'static str> {
        match self {
            Self::OpenRouter => Some("OPENROUTER_API_KEY"),
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Compatible | Self::Offline => None,
        }
    }

    /// Whether nothing works without a key.
    pub fn needs_key(self) -> bool {
        self.default_key_env().is_some()
    }
}

impl ProviderSettings {
    /// A provider of this kind with everything else as it is by default.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            base_url: None,
            key_env: None,
            key_file: None,
            app_url: None,
            app_title: default_app_title(),
            streaming: default_streaming(),
            timeout_seconds: default_timeout_seconds(),
            models: BTreeMap::new(),
        }
    }

    /// The address with `path` appended.
    pub(super) fn endpoint(&self, name: &str, path: &str) -> Result<Url, ProviderSetupError> {
        let default =
            || self.kind.default_base_url().map(|url| Url::parse(url).expect("our own addresses are addresses"));
        let mut url = self
            .base_url
            .clone()
            .or_else(default)
            .ok_or_else(|| ProviderSetupError::BaseUrlMissing(name.to_owned()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProviderSetupError::BaseUrlUnusable(name.to_owned()));
        }
        let mut segments =
            url.path_segments_mut().map_err(|()| ProviderSetupError::BaseUrlUnusable(name.to_owned()))?;
        segments.pop_if_empty().extend(path.split('/'));
        drop(segments);
        Ok(url)
    }

    /// The key from the file or from `environment`, `None` if there is none.
    pub(super) fn key(
        &self,
        name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Key>, ProviderSetupError> {
        let text = match &self.key_file {
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| ProviderSetupError::KeyFile {
                provider: name.to_owned(),
                path: path.clone(),
                reason: error.to_string(),
            })?),
            None => self.key_env.as_deref().or(self.kind.default_key_env()).and_then(environment),
        };
        match text {
            Some(text) if !text.trim().is_empty() => {
                Key::new(&text).map(Some).ok_or_else(|| ProviderSetupError::KeyUnusable(name.to_owned()))
            }
            _ => Ok(None),
        }
    }
}

fn default_app_title() -> String {
    "Nudge".to_owned()
}

fn default_streaming() -> bool {
    true
}

fn default_timeout_seconds() -> u16 {
    30
}
