//! What goes on on one HTTP/2 connection: whether requests are open, and whether their answers are read.
//!
//! On HTTP/2 a client can leave one answer unread while it reads others and answers pings, so timers on the connection
//! itself see nothing.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};

use super::Limits;

/// Answers go out in pieces of this size, so that the time between two of them tells whether somebody reads.
const PIECE_BYTES: usize = 64 * 1024;

/// How often it is looked whether there still is activity.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The activity on one connection.
pub(super) struct Activity {
    state: Mutex<State>,
}

struct State {
    /// The open requests, each with the moment since when a piece of its answer waits to be read.
    requests: HashMap<u64, Option<Instant>>,
    count: u64,
    idle_since: Instant,
}

/// An open request: it ends when its answer is read, or given up.
pub(super) struct OpenRequest {
    activity: Arc<Activity>,
    number: u64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { requests: HashMap::new(), count: 0, idle_since: Instant::now() }) })
    }

    pub(super) fn begin(self: &Arc<Self>) -> OpenRequest {
        let mut state = self.state();
        state.count += 1;
        let number = state.count;
        state.requests.insert(number, None);
        OpenRequest { activity: self.clone(), number }
    }

    /// Waits until the other end deserves to be sent away, and says why.
    pub(super) async fn ceased(&self, limits: &Limits) -> &'static str {
        let interval = (limits.write_timeout.min(limits.idle_timeout) / 2).min(LOOK_INTERVAL_MAX);
        loop {
            sleep(interval).await;
            let state = self.state();
            if state.requests.is_empty() && state.idle_since.elapsed() > limits.idle_timeout {
                return "no requests";
            }
            if state.requests.values().flatten().any(|since| since.elapsed() > limits.write_timeout) {
                return "answers are not read";
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRequest {
    /// The body of the answer.
    pub(super) fn answered(self, body: Body) -> Body {
        self.note(Some(Instant::now()));
        Body::new(WatchedBody { request: self, body, rest: Bytes::new() })
    }

    fn note(&self, waiting_since: Option<Instant>) {
        self.activity.state().requests.insert(self.number, waiting_since);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests.remove(&self.number);
        state.idle_since = Instant::now();
    }
}

struct WatchedBody {
    request: OpenRequest,
    body: Body,
    /// What is left of the last piece that came.
    rest: Bytes,
}

impl hyper::body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    /// Is only called when there is room for another piece.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.request.note(Some(Instant::now()));
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Poll::Pending => {
                    // Now it is us who make the other end wait.
                    self.request.note(None);
                    return Poll::Pending;
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}
