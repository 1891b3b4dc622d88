//! The providers that there are, and [`Completions`], which asks them: with patience, but not for ever, and another one
//! if the first has failed.

mod anthropic;
mod breaker;
mod completions;
mod draft;
mod exchange;
mod json;
mod models;
mod offline;
mod openai;
mod retry_after;
mod settings;
mod sse;

use std::{sync::Arc, time::Duration};

use self::{anthropic::Anthropic, exchange::Patience, openai::OpenAi};
pub(crate) use self::{completions::ANSWERS_AT_ONCE, json::JsonBody, offline::in_words, sse::Parser};
pub use self::{
    completions::{Candidate, Completions, RetryPolicy},
    models::ModelFacts,
    offline::Offline,
    settings::{Key, Kind, ProviderSettings, ProviderSetupError},
};
use crate::{http::Http, provider::Provider};

/// The name of the provider that is always there, without a key and without a network.
pub const OFFLINE: &str = "offline";

/// The provider that the settings describe. `environment` reads a variable.
pub fn provider(
    name: &str,
    settings: &ProviderSettings,
    environment: &dyn Fn(&str) -> Option<String>,
    http: &Http,
) -> Result<Arc<dyn Provider>, ProviderSetupError> {
    let silence_max = Duration::from_secs(settings.timeout_seconds.max(1).into());
    let patience = Patience { silence_max, whole_max: silence_max * 2 };
    let key = settings.key(name, environment)?;
    if key.is_none() && settings.kind.needs_key() {
        tracing::warn!(provider = name, "no key is set for this provider; bots that need it say so and nothing else");
    }
    Ok(match settings.kind {
        Kind::Offline => Arc::new(Offline::new(name)),
        Kind::OpenRouter | Kind::OpenAi | Kind::Compatible => {
            let url = settings.endpoint(name, "chat/completions")?;
            warn_of_plain_http(name, &url, key.is_some());
            Arc::new(OpenAi::new(name, settings, url, key, patience, http))
        }
        Kind::Anthropic => {
            let url = settings.endpoint(name, "messages")?;
            warn_of_plain_http(name, &url, key.is_some());
            Arc::new(Anthropic::new(name, settings, url, key, patience, http))
        }
    })
}

fn warn_of_plain_http(name: &str, url: &reqwest::Url, has_key: bool) {
    let is_local = match url.host() {
        Some(url::Host::Domain(host)) => host == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && has_key && !is_local {
        tracing::warn!(provider = name, "the key goes to this provider without TLS, readable to everybody on the way");
    }
}
