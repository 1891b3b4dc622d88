//! Signing requests by the book, written anew so that a mistake in the server's own code does not cancel itself out.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http::{Method, header};
use rules::event::ServerKey;
use ruma::{OwnedServerName, signatures::KeyPair as _};
use serde_json::{Value, json};

use crate::Request;

/// What is signed, and sent unless a test changes it afterwards.
#[derive(Clone, Debug)]
pub struct SignedRequest {
    /// Who says to be asking.
    pub origin: OwnedServerName,
    /// Who is asked.
    pub destination: OwnedServerName,
    /// The method.
    pub method: Method,
    /// Path and query, as they stand in the request line.
    pub target: String,
    /// The body, if there is one.
    pub body: Option<String>,
}

impl SignedRequest {
    /// The signature, in the form that the header carries.
    pub fn signature(&self, key: &ServerKey) -> String {
        let mut object = json!({
            "method": self.method.as_str(),
            "uri": self.target,
            "origin": self.origin,
            "destination": self.destination,
        });
        if let Some(body) = &self.body {
            object["content"] = serde_json::from_str::<Value>(body).expect("the body is JSON");
        }
        // Objects are sorted by key and written without spaces: for the values that tests sign, this is canonical JSON.
        STANDARD_NO_PAD.encode(key.sign(object.to_string().as_bytes()).as_bytes())
    }

    /// The value of the `Authorization` header.
    pub fn authorization(&self, key: &ServerKey) -> String {
        let signature = self.signature(key);
        let Self { origin, destination, .. } = self;
        let key_id = key.key_id();
        format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="{key_id}",sig="{signature}""#)
    }

    /// The request with its `Authorization` header.
    pub fn into_request(self, key: &ServerKey) -> Request {
        let authorization = self.authorization(key);
        let mut request = self.into_unsigned_request();
        let authorization = authorization.try_into().expect("the header is ASCII");
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
        request
    }

    /// The request without that header.
    pub fn into_unsigned_request(self) -> Request {
        let builder = http::Request::builder().method(self.method).uri(self.target);
        let builder = match &self.body {
            Some(_) => builder.header(header::CONTENT_TYPE, "application/json"),
            None => builder,
        };
        builder.body(self.body.map(Bytes::from).unwrap_or_default()).expect("the target is a path")
    }
}
