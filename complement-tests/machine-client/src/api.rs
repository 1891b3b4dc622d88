//! The client-server API, as far as it is called here: JSON there and back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

/// What a call may fail with.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Longer than any long poll here.
const DEADLINE: Duration = Duration::from_secs(30);

/// Calls to one homeserver, as one device.
pub(crate) struct Api {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl Api {
    /// Registers a user with a device, or logs in when the user is there.
    pub(crate) async fn enter(
        base_url: &str,
        user: &str,
        password: &str,
        device: &str,
    ) -> Result<(Self, Value), Failure> {
        let http = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build()?;
        let mut api = Self { http, base_url: base_url.to_owned(), token: String::new() };
        let register = json!({
            "username": user,
            "password": password,
            "device_id": device,
            "auth": { "type": "m.login.dummy" },
        });
        let session = match api.call(Method::POST, "register", Some(register)).await {
            Ok(session) => session,
            Err(_) => {
                let login = json!({
                    "type": "m.login.password",
                    "identifier": { "type": "m.id.user", "user": user },
                    "password": password,
                    "device_id": device,
                });
                api.call(Method::POST, "login", Some(login)).await?
            }
        };
        session["access_token"].as_str().ok_or("a session has a token")?.clone_into(&mut api.token);
        Ok((api, session))
    }

    /// One call below `/_matrix/client/v3/`. An answer that is not 200 is a failure with the answer in it.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let mut request = self.http.request(method.clone(), format!("{}/_matrix/client/v3/{path}", self.base_url));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            return Err(format!("{method} {path}: {status} {text}").into());
        }
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }
}

/// A text as one part of a path.
pub(crate) fn escaped(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
