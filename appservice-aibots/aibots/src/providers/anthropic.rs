//! Anthropic's messages. <https://docs.anthropic.com/en/api/messages>

mod fault;
mod reply;
mod request;

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Method, Url};

use self::reply::Reply;
use super::{
    exchange::{Failure, Patience, exchange},
    json::JsonBody,
    settings::{Key, ProviderSettings},
};
use crate::{
    http::Http,
    provider::{Answer, Error, Progress, Provider, Request},
};

/// The version of the interface that this is written for.
const VERSION: &str = "2023-06-01";

/// A server that speaks messages.
pub(super) struct Anthropic {
    name: String,
    http: Http,
    url: Url,
    key: Option<Key>,
    streaming: bool,
    patience: Patience,
}

impl Anthropic {
    /// The server at `url`, which is the one of its messages.
    pub(super) fn new(
        name: &str,
        settings: &ProviderSettings,
        url: Url,
        key: Option<Key>,
        patience: Patience,
        http: &Http,
    ) -> Self {
        Self { name: name.to_owned(), http: http.clone(), url, key, streaming: settings.streaming, patience }
    }

    async fn ask(&self, request: &Request, progress: &Progress) -> Result<Answer, Error> {
        let key = self.key.as_ref().ok_or(Error::NotConfigured)?;
        let body = request::body(request, self.streaming);
        let call = self
            .http
            .request(Method::POST, self.url.clone())
            .header("x-api-key", key.expose())
            .header("anthropic-version", VERSION)
            .json_body(&body);
        exchange(call, Reply::new(&request.model), self.patience, progress).await.map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Fault(fault) => fault::judge(&fault, &request.model),
        })
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &str {
        &self.name
    }

    fn answer<'a>(&'a self, request: &'a Request, progress: &'a Progress) -> BoxFuture<'a, Result<Answer, Error>> {
        self.ask(request, progress).boxed()
    }
}
