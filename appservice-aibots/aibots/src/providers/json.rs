//! Writing JSON as providers want it.

use reqwest::{RequestBuilder, header};
use serde_json::{Value, json};

/// `RequestBuilder::json` is a feature of reqwest that nobody else in this workspace needs.
pub(crate) trait JsonBody {
    /// With this body and its content type.
    fn json_body(self, body: &Value) -> Self;
}

impl JsonBody for RequestBuilder {
    fn json_body(self, body: &Value) -> Self {
        self.header(header::CONTENT_TYPE, "application/json").body(body.to_string())
    }
}

/// 0.8 and not 0.800000011920929.
pub(super) fn decimal(number: f32) -> Value {
    json!((f64::from(number) * 1000.0).round() / 1000.0)
}
