//! The calls that bots need, each with what it is good for.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use super::{As, CallError, Homeserver};
use crate::conversation::event::Object;
use crate::http::HttpFault;

const CLIENT: [&str; 2] = ["client", "v3"];

/// For how long somebody is shown as typing if nothing renews it, in milliseconds.
pub(crate) const TYPING_TIMEOUT_MS: u64 = 30_000;

fn v3<'a>(path: &[&'a str]) -> Vec<&'a str> {
    [&CLIENT, path].concat()
}

impl Homeserver {
    /// Makes an account of ours. One that is there already is as good.
    pub(crate) async fn register(&self, localpart: &str) -> Result<(), CallError> {
        let body = json!({ "type": "m.login.application_service", "username": localpart, "inhibit_login": true });
        match self.call(As::Service, Method::POST, &v3(&["register"]), &[], Some(&body)).await {
            Err(CallError::Refused { code, .. }) if code == "M_USER_IN_USE" => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Who the homeserver takes us for.
    pub(crate) async fn who_am_i(&self) -> Result<String, CallError> {
        let answer = self.call(As::Service, Method::GET, &v3(&["account", "whoami"]), &[], None).await?;
        text(&answer, "user_id")
    }

    pub(crate) async fn profile(&self, user_id: &str) -> Result<Value, CallError> {
        self.call(As::User(user_id), Method::GET, &v3(&["profile", user_id]), &[], None).await
    }

    pub(crate) async fn set_profile(&self, user_id: &str, field: &str, value: &Value) -> Result<(), CallError> {
        let body = json!({ field: value });
        self.call(As::User(user_id), Method::PUT, &v3(&["profile", user_id, field]), &[], Some(&body)).await.map(drop)
    }

    pub(crate) async fn set_presence(&self, user_id: &str, presence: &str, status: &str) -> Result<(), CallError> {
        let body = json!({ "presence": presence, "status_msg": status });
        let path = v3(&["presence", user_id, "status"]);
        self.call(As::User(user_id), Method::PUT, &path, &[], Some(&body)).await.map(drop)
    }

    /// Makes a room that everybody of this homeserver may join, or finds the one that has the alias.
    pub(crate) async fn make_public_room(
        &self,
        user_id: &str,
        alias: &str,
        name: &str,
        topic: &str,
    ) -> Result<String, CallError> {
        let body = json!({ "preset": "public_chat", "room_alias_name": alias, "name": name, "topic": topic,
            "creation_content": { "m.federate": false } });
        let path = v3(&["createRoom"]);
        let room_id = match self.call(As::User(user_id), Method::POST, &path, &[], Some(&body)).await {
            Ok(answer) => text(&answer, "room_id")?,
            Err(CallError::Refused { code, .. }) if code == "M_ROOM_IN_USE" => {
                let server = user_id.split_once(':').map_or("", |(_, server)| server);
                let alias = format!("#{alias}:{server}");
                let path = v3(&["directory", "room", &alias]);
                return text(&self.call(As::User(user_id), Method::GET, &path, &[], None).await?, "room_id");
            }
            Err(error) => return Err(error),
        };
        let path = v3(&["directory", "list", "room", &room_id]);
        let body = json!({ "visibility": "public" });
        if let Err(error) = self.call(As::User(user_id), Method::PUT, &path, &[], Some(&body)).await {
            tracing::debug!(%error, "the room is not listed");
        }
        Ok(room_id)
    }

    pub(crate) async fn join(&self, user_id: &str, room_id: &str) -> Result<(), CallError> {
        let via = room_id.split_once(':').map(|(_, server)| ("server_name", server));
        let path = v3(&["join", room_id]);
        self.call(As::User(user_id), Method::POST, &path, via.as_slice(), Some(&json!({}))).await.map(drop)
    }

    pub(crate) async fn leave(&self, user_id: &str, room_id: &str, reason: &str) -> Result<(), CallError> {
        let body = json!({ "reason": reason });
        let path = v3(&["rooms", room_id, "leave"]);
        self.call(As::User(user_id), Method::POST, &path, &[], Some(&body)).await.map(drop)
    }

    pub(crate) async fn state(&self, user_id: &str, room_id: &str) -> Result<Vec<Value>, CallError> {
        let path = v3(&["rooms", room_id, "state"]);
        match self.call(As::User(user_id), Method::GET, &path, &[], None).await? {
            Value::Array(state) => Ok(state),
            _ => Err(CallError::Strange("the state")),
        }
    }

    /// Sets a state event of a bot's own.
    pub(crate) async fn set_state(
        &self,
        user_id: &str,
        room_id: &str,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> Result<(), CallError> {
        let path = v3(&["rooms", room_id, "state", kind, key]);
        self.call(As::User(user_id), Method::PUT, &path, &[], Some(content)).await.map(drop)
    }

    /// The newest events of a room, newest first, at most `limit`, and where older ones begin.
    pub(crate) async fn messages(
        &self,
        user_id: &str,
        room_id: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Value>, Option<String>), CallError> {
        const FILTER: &str = r#"{"types":["m.room.message","m.room.encrypted"]}"#;
        let limit = limit.to_string();
        let mut query = vec![("dir", "b"), ("limit", limit.as_str()), ("filter", FILTER)];
        query.extend(from.map(|from| ("from", from)));
        let path = v3(&["rooms", room_id, "messages"]);
        let mut answer = self.call(As::User(user_id), Method::GET, &path, &query, None).await?;
        let Some(Value::Array(events)) = answer.get_mut("chunk").map(Value::take) else {
            return Err(CallError::Strange("events"));
        };
        Ok((events, text(&answer, "end").ok()))
    }

    /// Sends an event. The same `transaction_id` sends it once, however often it is called.
    pub(crate) async fn send(
        &self,
        who: As<'_>,
        room_id: &str,
        kind: &str,
        transaction_id: &str,
        content: Object,
    ) -> Result<String, CallError> {
        let path = v3(&["rooms", room_id, "send", kind, transaction_id]);
        let answer = self.call(who, Method::PUT, &path, &[], Some(&Value::Object(content))).await?;
        text(&answer, "event_id")
    }

    pub(crate) async fn set_typing(&self, user_id: &str, room_id: &str, is_typing: bool) -> Result<(), CallError> {
        let body = if is_typing {
            json!({ "typing": true, "timeout": TYPING_TIMEOUT_MS })
        } else {
            json!({ "typing": false })
        };
        let path = v3(&["rooms", room_id, "typing", user_id]);
        self.call(As::User(user_id), Method::PUT, &path, &[], Some(&body)).await.map(drop)
    }

    pub(crate) async fn mark_read(&self, user_id: &str, room_id: &str, event_id: &str) -> Result<(), CallError> {
        let path = v3(&["rooms", room_id, "receipt", "m.read", event_id]);
        self.call(As::User(user_id), Method::POST, &path, &[], Some(&json!({}))).await.map(drop)
    }

    /// The bytes of a file, if they come within `deadline` and are not more than `bytes_max`. It is asked for once: who
    /// waits for a file can do without it.
    pub(crate) async fn download(
        &self,
        user_id: &str,
        uri: &str,
        bytes_max: usize,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let (server, media_id) = uri
            .strip_prefix("mxc://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or(CallError::Strange("a content URI"))?;
        let url = self.url(&["client", "v1", "media", "download", server, media_id], &[("user_id", user_id)]);
        let request = self.http.request(Method::GET, url).bearer_auth(&self.token);
        let get = async {
            let response = crate::http::send(request, deadline).await?;
            let status = response.status();
            Ok::<_, HttpFault>((status, crate::http::body(response, bytes_max, deadline).await?))
        };
        let outcome = tokio::time::timeout(deadline, get).await.unwrap_or(Err(HttpFault::Timeout));
        let (status, bytes) = outcome.map_err(|fault| CallError::Away(fault.to_string()))?;
        if status.is_success() { Ok(bytes) } else { Err(super::refusal(status, &bytes)) }
    }

    /// Uploads a file.
    pub(crate) async fn upload(&self, user_id: &str, kind: &str, file: Vec<u8>) -> Result<String, CallError> {
        let url = self.url(&["media", "v3", "upload"], &[("user_id", user_id)]);
        let request = self.http.request(Method::POST, url).bearer_auth(&self.token);
        let request = request.header(reqwest::header::CONTENT_TYPE, kind).body(file);
        let away = |fault: crate::http::HttpFault| CallError::Away(fault.to_string());
        let response = crate::http::send(request, super::ATTEMPT_DEADLINE).await.map_err(away)?;
        let status = response.status();
        let bytes =
            crate::http::body(response, super::ANSWER_BYTES_MAX, super::ATTEMPT_DEADLINE).await.map_err(away)?;
        text(&super::read(status, &bytes)?, "content_uri")
    }

    /// Asks the homeserver to call us, to see whether it can.
    pub(crate) async fn ping(&self, service: &str, transaction_id: &str) -> Result<u64, CallError> {
        let body = json!({ "transaction_id": transaction_id });
        let path = ["client", "v1", "appservice", service, "ping"];
        let deadline = super::ATTEMPT_DEADLINE;
        let answer = self.once(As::Service, Method::POST, &path, &[], Some(&body), deadline).await?;
        Ok(answer.get("duration_ms").and_then(Value::as_u64).unwrap_or(0))
    }
}

/// A text that an answer must have.
pub(crate) fn text(answer: &Value, field: &'static str) -> Result<String, CallError> {
    answer.get(field).and_then(Value::as_str).map(str::to_owned).ok_or(CallError::Strange(field))
}
