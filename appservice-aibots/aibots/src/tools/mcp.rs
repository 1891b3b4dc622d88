//! The Model Context Protocol over streamable HTTP, as a client that uses tools and nothing else.
//! <https://modelcontextprotocol.io/specification/2025-06-18/basic/transports>
//!
//! Servers that are started as programs are not supported: a chat bot is no place to run programs from.

use std::{
    collections::BTreeSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::{Method, Response, Url, header};
use serde_json::{Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{ToolError, ToolServer};
use crate::{
    http::{self, Http},
    provider::ToolOffer,
    providers::{JsonBody, Key, Parser},
};

/// The version that this is written for, and that is offered.
const VERSION: &str = "2025-06-18";
/// Versions whose tools look the same.
const VERSIONS: [&str; 3] = ["2025-06-18", "2025-03-26", "2025-11-25"];
/// The largest reply. What a model is told of it is far smaller.
const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// How long a server may say nothing. Each call has a deadline besides.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pages of the list of tools.
const PAGES_MAX: usize = 8;
/// How long the list is believed.
const LIST_LIFETIME: Duration = Duration::from_mins(5);
/// How long to wait for it. People wait for their answer meanwhile.
const LIST_DEADLINE: Duration = Duration::from_secs(5);
/// How long a server that did not tell it is left alone.
const FAILURE_LIFETIME: Duration = Duration::from_mins(1);
/// The longest name of a session that is kept.
const SESSION_BYTES_MAX: usize = 1024;

/// A server of tools.
pub(super) struct McpServer {
    name: String,
    http: Http,
    url: Url,
    token: Option<Key>,
    functions: Option<BTreeSet<String>>,
    next_id: AtomicU64,
    session: RwLock<Option<Session>>,
    list: Mutex<Option<Listed>>,
}

/// What the server offers, or why it does not say, and since when that is known.
type Listed = (Instant, Result<Vec<ToolOffer>, ToolError>);

/// What the server and we have agreed on.
#[derive(Clone)]
struct Session {
    id: Option<String>,
    version: String,
}

/// Why a call did not go through.
enum Fault {
    /// The server does not know the session any more: a new one is to be begun.
    SessionOver,
    Error(ToolError),
}

impl McpServer {
    /// The server at `url`.
    pub(super) fn new(
        name: &str,
        http: &Http,
        url: Url,
        token: Option<Key>,
        functions: Option<BTreeSet<String>>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            http: http.clone(),
            url,
            token,
            functions,
            next_id: AtomicU64::new(1),
            session: RwLock::default(),
            list: Mutex::default(),
        }
    }

    /// Calls a method, in the session that there is or a new one.
    async fn ask(&self, method: &str, parameters: Value) -> Result<Value, ToolError> {
        let known = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(session) = known {
            match self.exchange(Some(&session), method, parameters.clone()).await {
                Ok((result, _)) => return Ok(result),
                Err(Fault::Error(error)) => return Err(error),
                Err(Fault::SessionOver) => {}
            }
        }
        let session = self.begin().await?;
        self.exchange(Some(&session), method, parameters).await.map(|(result, _)| result).map_err(Fault::into_error)
    }

    async fn begin(&self) -> Result<Session, ToolError> {
        let us = json!({ "name": "nudge-aibots", "version": env!("CARGO_PKG_VERSION") });
        let parameters = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": us });
        let (result, id) = self.exchange(None, "initialize", parameters).await.map_err(Fault::into_error)?;
        let version = result["protocolVersion"].as_str().filter(|version| VERSIONS.contains(version));
        let Some(version) = version else {
            tracing::warn!(tools = self.name, "the tool server speaks a version of the protocol that we do not");
            return Err(ToolError::Broken);
        };
        let session = Session { id, version: version.to_owned() };
        let notice = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let response = self.send(Some(&session), &notice).await.map_err(Fault::into_error)?;
        drop(response);
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        Ok(session)
    }

    /// One call and its reply, and the name of the session if the server gives one.
    async fn exchange(
        &self,
        session: Option<&Session>,
        method: &str,
        parameters: Value,
    ) -> Result<(Value, Option<String>), Fault> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": parameters });
        let response = self.send(session, &call).await?;
        let session_id = session_id(&response);
        let reply = self.reply(response, id).await?;
        if let Some(error) = reply.get("error") {
            let message = error["message"].as_str().unwrap_or("the function failed");
            return Err(Fault::Error(ToolError::Failed(message.to_owned())));
        }
        let result = reply.get("result").cloned().ok_or(ToolError::Broken)?;
        Ok((result, session_id))
    }

    async fn send(&self, session: Option<&Session>, message: &Value) -> Result<Response, Fault> {
        let mut request = self
            .http
            .request(Method::POST, self.url.clone())
            .header(header::ACCEPT, "application/json, text/event-stream")
            .json_body(message);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(session) = session {
            request = request.header("MCP-Protocol-Version", &session.version);
            if let Some(id) = &session.id {
                request = request.header("Mcp-Session-Id", id);
            }
        }
        let response = http::send(request, SILENCE_MAX).await.map_err(|_| ToolError::Broken)?;
        match response.status().as_u16() {
            200..=299 => Ok(response),
            404 if session.is_some_and(|session| session.id.is_some()) => Err(Fault::SessionOver),
            status => {
                tracing::warn!(tools = self.name, status, "the tool server refuses a call");
                Err(Fault::Error(ToolError::Broken))
            }
        }
    }

    /// The reply to this call, as JSON or among the events of a stream; other messages of the server are none of ours.
    async fn reply(&self, mut response: Response, id: u64) -> Result<Value, ToolError> {
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim_start().starts_with("text/event-stream"));
        if !is_stream {
            let body = http::body(response, REPLY_BYTES_MAX, SILENCE_MAX).await.map_err(|_| ToolError::Broken)?;
            let reply: Value = serde_json::from_slice(&body).map_err(|_| ToolError::Broken)?;
            return if reply["id"] == id { Ok(reply) } else { Err(ToolError::Broken) };
        }
        let mut parser = Parser::default();
        while let Some(piece) = http::chunk(&mut response, SILENCE_MAX).await.map_err(|_| ToolError::Broken)? {
            for event in parser.feed(&piece).map_err(|_| ToolError::Broken)? {
                let message: Value = serde_json::from_str(&event.data).map_err(|_| ToolError::Broken)?;
                if message["id"] == id && message.get("method").is_none() {
                    return Ok(message);
                }
            }
        }
        Err(ToolError::Broken)
    }

    async fn list(&self) -> Result<Vec<ToolOffer>, ToolError> {
        let mut known = self.list.lock().await;
        if let Some((since, outcome)) = known.as_ref() {
            let lifetime = if outcome.is_ok() { LIST_LIFETIME } else { FAILURE_LIFETIME };
            if since.elapsed() < lifetime {
                return outcome.clone();
            }
        }
        let outcome = timeout(LIST_DEADLINE, self.fetch_list()).await.unwrap_or(Err(ToolError::Timeout));
        *known = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn fetch_list(&self) -> Result<Vec<ToolOffer>, ToolError> {
        let mut offers = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let parameters = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
            let page = self.ask("tools/list", parameters).await?;
            offers.extend(page["tools"].as_array().ok_or(ToolError::Broken)?.iter().filter_map(offer));
            cursor = page["nextCursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if let Some(functions) = &self.functions {
            offers.retain(|offer| functions.contains(&offer.name));
        }
        Ok(offers)
    }

    async fn call_tool(&self, name: &str, arguments: Value) -> Result<String, ToolError> {
        let result = self.ask("tools/call", json!({ "name": name, "arguments": arguments })).await?;
        let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<&str> = blocks
            .iter()
            .map(|block| match block["type"].as_str() {
                Some("text") => block["text"].as_str().unwrap_or(""),
                _ => "(something that is not text)",
            })
            .collect();
        let text = if texts.is_empty() && !result["structuredContent"].is_null() {
            result["structuredContent"].to_string()
        } else {
            texts.join("\n")
        };
        if result["isError"] == true { Err(ToolError::Failed(text)) } else { Ok(text) }
    }
}

impl ToolServer for McpServer {
    fn offers(&self) -> BoxFuture<'_, Result<Vec<ToolOffer>, ToolError>> {
        self.list().boxed()
    }

    fn call<'a>(&'a self, name: &'a str, arguments: Value) -> BoxFuture<'a, Result<String, ToolError>> {
        self.call_tool(name, arguments).boxed()
    }
}

impl Fault {
    fn into_error(self) -> ToolError {
        match self {
            Self::SessionOver => ToolError::Broken,
            Self::Error(error) => error,
        }
    }
}

impl From<ToolError> for Fault {
    fn from(error: ToolError) -> Self {
        Self::Error(error)
    }
}

fn session_id(response: &Response) -> Option<String> {
    let id = response.headers().get("mcp-session-id")?.to_str().ok()?;
    (id.len() <= SESSION_BYTES_MAX).then(|| id.to_owned())
}

fn offer(tool: &Value) -> Option<ToolOffer> {
    Some(ToolOffer {
        name: tool["name"].as_str()?.to_owned(),
        description: tool["description"].as_str().or(tool["title"].as_str()).unwrap_or("").to_owned(),
        parameters: tool.get("inputSchema").cloned().unwrap_or_else(|| json!({ "type": "object" })),
    })
}
