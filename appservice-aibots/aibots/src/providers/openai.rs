//! `OpenAI`'s chat completions, as `OpenAI`, `OpenRouter`, Ollama, llama.cpp, vLLM and `LiteLLM` serve them.
//! <https://platform.openai.com/docs/api-reference/chat> <https://openrouter.ai/docs/api-reference/overview>
//!
//! The servers differ in which optional fields they take. One that rejects a field that changes nothing of the question's
//! meaning is asked again without it, and that is remembered for its model.

mod fault;
mod quirks;
mod reply;
mod request;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Method, RequestBuilder, Url};

use self::{quirks::Quirks, reply::Reply};
use super::{
    exchange::{Failure, Patience, exchange},
    json::JsonBody,
    settings::{Key, Kind, ProviderSettings},
};
use crate::{
    http::Http,
    provider::{Answer, Error, Progress, Provider, Request},
};

/// Optional fields that a server may reject one after the other: as many as there are.
const QUIRKS_LEARNT_MAX: usize = quirks::COUNT;
/// Models whose quirks are remembered. Operators configure a handful.
const MODELS_REMEMBERED_MAX: usize = 256;

/// A server that speaks chat completions.
pub(super) struct OpenAi {
    name: String,
    http: Http,
    url: Url,
    key: Option<Key>,
    needs_key: bool,
    attribution: Option<(Option<String>, String)>,
    streaming: bool,
    patience: Patience,
    quirks: Mutex<BTreeMap<String, Quirks>>,
}

impl OpenAi {
    /// The server at `url`, which is the one of its chat completions.
    pub(super) fn new(
        name: &str,
        settings: &ProviderSettings,
        url: Url,
        key: Option<Key>,
        patience: Patience,
        http: &Http,
    ) -> Self {
        let attribution =
            (settings.kind == Kind::OpenRouter).then(|| (settings.app_url.clone(), settings.app_title.clone()));
        Self {
            name: name.to_owned(),
            http: http.clone(),
            url,
            key,
            needs_key: settings.kind.needs_key(),
            attribution,
            streaming: settings.streaming,
            patience,
            quirks: Mutex::default(),
        }
    }

    async fn ask(&self, request: &Request, progress: &Progress) -> Result<Answer, Error> {
        if self.needs_key && self.key.is_none() {
            return Err(Error::NotConfigured);
        }
        for _ in 0..=QUIRKS_LEARNT_MAX {
            let quirks = self.quirks_of(&request.model);
            let body = request::body(request, self.streaming, quirks);
            let outcome = exchange(self.call(&body), Reply::new(&request.model), self.patience, progress).await;
            let fault = match outcome {
                Ok(answer) => return Ok(answer),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::Fault(fault)) => fault,
            };
            let learnt = quirks.learn(fault.status, &fault.body, &body);
            if learnt == quirks {
                return Err(fault::judge(&fault, &request.model));
            }
            tracing::info!(provider = self.name, model = request.model, quirks = ?learnt, "the provider rejects an optional field; it is left out from now on");
            self.remember(&request.model, learnt);
            progress.restart();
        }
        Err(Error::Rejected { status: 400 })
    }

    fn call(&self, body: &serde_json::Value) -> RequestBuilder {
        let mut call = self.http.request(Method::POST, self.url.clone()).json_body(body);
        if let Some(key) = &self.key {
            call = call.bearer_auth(key.expose());
        }
        if let Some((url, title)) = &self.attribution {
            call = call.header("X-Title", title).header("X-OpenRouter-Title", title);
            if let Some(url) = url {
                call = call.header("HTTP-Referer", url);
            }
        }
        call
    }

    fn quirks_of(&self, model: &str) -> Quirks {
        self.quirks.lock().unwrap_or_else(PoisonError::into_inner).get(model).copied().unwrap_or_default()
    }

    fn remember(&self, model: &str, quirks: Quirks) {
        let mut known = self.quirks.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MODELS_REMEMBERED_MAX || known.contains_key(model) {
            known.insert(model.to_owned(), quirks);
        }
    }
}

impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, request: &'a Request, progress: &'a Progress) -> BoxFuture<'a, Result<Answer, Error>> {
        self.ask(request, progress).boxed()
    }
}
