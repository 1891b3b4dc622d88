//! The client-server API, as far as it is called here: JSON there and back.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What a call may fail with.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Longer than any long poll here.
const DEADLINE: Duration = Duration::from_mins(1);

/// Calls to one homeserver.
pub(crate) struct Api {
    http: reqwest::Client,
    base_url: String,
    token: String,
}

impl Api {
    pub(crate) fn new(base_url: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build()?;
        Ok(Self { http, base_url: base_url.to_owned(), token: String::new() })
    }

    /// Makes an account, and no session of it.
    pub(crate) async fn register(base_url: &str, name: &str, password: &str) -> Result<Self, Failure> {
        let api = Self::new(base_url)?;
        let mut request = json!({ "username": name, "password": password, "inhibit_login": true });
        let (_, stages) = api.ask(Method::POST, "register", Some(&request)).await?;
        request["auth"] = json!({ "type": "m.login.dummy", "session": stages["session"] });
        api.post("register", request).await?;
        Ok(api)
    }

    /// Logs in as a device. Gives the id of the user.
    pub(crate) async fn log_in(&mut self, user: &str, password: &str, device: &str) -> Result<String, Failure> {
        let identifier = json!({ "type": "m.id.user", "user": user });
        let login = json!({
            "type": "m.login.password",
            "identifier": identifier,
            "password": password,
            "device_id": device,
            "initial_device_display_name": "machine",
        });
        let session = self.post("login", login).await?;
        session["access_token"].as_str().ok_or("a session has a token")?.clone_into(&mut self.token);
        Ok(session["user_id"].as_str().ok_or("a session has a user")?.to_owned())
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// One call below `/_matrix/client/v3/`.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let mut request = self.http.request(method, format!("{}/_matrix/client/v3/{path}", self.base_url));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        Ok((status, serde_json::from_str(&response.text().await?)?))
    }

    /// A call whose answer is a failure when it is not 200.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (status, answer) = self.ask(method, path, body).await?;
        if status.is_success() { Ok(answer) } else { Err(format!("{path}: {status} {answer}").into()) }
    }

    /// Uploads a file that says nothing of itself. Gives its `mxc:` URI.
    pub(crate) async fn upload(&self, file: Vec<u8>) -> Result<String, Failure> {
        let request = self.http.post(format!("{}/_matrix/media/v3/upload", self.base_url)).bearer_auth(&self.token);
        let response = request.header("content-type", "application/octet-stream").body(file).send().await?;
        let answer: Value = serde_json::from_str(&response.error_for_status()?.text().await?)?;
        Ok(answer["content_uri"].as_str().ok_or("a file has an address")?.to_owned())
    }

    /// Downloads a file, by its server and its id.
    pub(crate) async fn download(&self, place: &str) -> Result<Vec<u8>, Failure> {
        let url = format!("{}/_matrix/client/v1/media/download/{place}", self.base_url);
        let response = self.http.get(url).bearer_auth(&self.token).send().await?;
        Ok(response.error_for_status()?.bytes().await?.to_vec())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, Some(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.call(Method::POST, path, Some(&body)).await
    }
}

/// A text as one part of a path.
pub(crate) fn escaped(text: &str) -> String {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let part = |byte| if is_kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(part).collect()
}
