//! Calls to push gateways, which pass on to devices what their users are notified of. Users say where they are.
//!
//! Spec: <https://spec.matrix.org/v1.19/push-gateway-api/>

use http::{Method, header::CONTENT_TYPE};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::{CallError, Federation};
use crate::CallLimits;

/// The only path at which there may be one.
const PATH: &str = "/_matrix/push/v1/notify";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    rejected: Vec<String>,
}

impl Federation {
    /// Judges the URL of a push gateway as far as it can be without asking for it, and returns its host and port.
    pub fn push_gateway(&self, url: &str) -> Result<String, CallError> {
        let denied = |reason: &str| CallError::Denied(reason.to_owned());
        let url = Url::parse(url).map_err(|_| denied("it is no URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.inner.transport.notifies_without_tls() => {}
            _ => return Err(denied("it is no HTTPS URL")),
        }
        if url.path() != PATH {
            return Err(denied("its path is not /_matrix/push/v1/notify"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(denied("it holds a user name, a password or a fragment"));
        }
        let host = url.host_str().ok_or_else(|| denied("it has no host"))?;
        Ok(format!("{host}:{}", url.port_or_known_default().unwrap_or(443)))
    }

    /// Tells a push gateway of a notification. Returns the pushkeys that it says are not valid any more.
    ///
    /// Whatever a gateway says beside its status 200, the notification is delivered: one that does not keep to the
    /// specification would otherwise wake the device again and again.
    pub async fn notify(&self, url: &str, body: &Value) -> Result<Vec<String>, CallError> {
        self.push_gateway(url)?;
        let request = http::Request::builder().method(Method::POST).uri(url);
        let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string().into());
        let request = request.map_err(|error| CallError::Denied(error.to_string()))?;
        let answer = self.inner.transport.notify(request, CallLimits::PUSH).await?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            return Err(CallError::Refused { status, errcode: None, error: None, room_version: None });
        }
        Ok(serde_json::from_slice::<Answer>(answer.body()).unwrap_or_default().rejected)
    }
}
