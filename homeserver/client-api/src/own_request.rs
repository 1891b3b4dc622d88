//! Requests that ruma has no types for.

use serde::Serialize;

/// An answer that says no more than that it is one.
#[derive(Serialize)]
pub(crate) struct Nothing {}

/// What requests of our own have in common.
pub(crate) trait OwnRequest {
    /// The parameters of the path, in its order.
    fn path(&self) -> &[String];

    /// One of them; there are as many as the path says.
    fn parameter(&self, index: usize) -> &str {
        self.path().get(index).map_or("", String::as_str)
    }
}

/// A request of which only the path is read here; its query and its body are among the [`Arguments`](crate::Arguments).
macro_rules! own_request {
    ($(#[doc = $text:literal])+ $name:ident, $method:ident $path:literal, $authentication:ident) => {
        $(#[doc = $text])+
        pub(crate) struct $name {
            path: Vec<String>,
        }

        ruma::metadata! {
            @for $name,
            method: $method,
            rate_limited: true,
            authentication: $authentication,
            history: { unstable => $path, }
        }

        impl ruma::api::IncomingRequest for $name {
            type EndpointError = ruma::api::error::Error;
            type OutgoingResponse = $crate::json::Json<$crate::own_request::Nothing>;

            fn try_from_http_request_inner(
                _: http::Request<&[u8]>,
                path: &[&str],
            ) -> Result<Self, ruma::api::error::DeserializationError> {
                Ok(Self { path: path.iter().map(|part| (*part).to_owned()).collect() })
            }
        }

        impl $crate::own_request::OwnRequest for $name {
            fn path(&self) -> &[String] {
                &self.path
            }
        }
    };
}
pub(crate) use own_request;
