//! Homeservers made of cardboard, for tests: each has a name, a signing key and rooms of its own, speaks to a server
//! under test inside one process, and answers what a test tells it to answer.
//!
//! A [`Network`] joins them: it is the transport of the server under test, and it hands requests of the fakes to the
//! router of the server under test. Nothing of it opens a socket.

#![expect(clippy::missing_panics_doc, reason = "a test that uses a fake wrongly is to fail, and says so by a panic")]

mod answer;
mod clock;
mod event;
mod network;
mod room;
mod server;
mod sign;

pub use self::{
    clock::WallClock,
    event::{object_of, raw, text_of},
    network::{Network, Recorded},
    room::{Room, RoomSettings},
    server::{FakeHomeserver, Hook},
    sign::SignedRequest,
};

/// A request with its whole body.
pub type Request = http::Request<bytes::Bytes>;

/// A response with its whole body.
pub type Response = http::Response<bytes::Bytes>;

/// A JSON response.
pub fn json(status: u16, body: &serde_json::Value) -> Response {
    let response = http::Response::builder().status(status).header("content-type", "application/json");
    response.body(body.to_string().into()).expect("the status is a number that HTTP knows")
}

/// The body of a response as JSON; `null` when it is none.
pub fn body_of(response: &Response) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap_or_default()
}
