//! Ends requests whose body does not come: hyper has no timer for that.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// A request's body that fails with [`io::ErrorKind::TimedOut`] when nothing comes for too long, or when it has taken
/// too long as a whole.
pub(super) struct TimedBody {
    body: Incoming,
    idle_timeout: Duration,
    deadline: Instant,
    /// Present while the other end lets us wait.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    /// A file may take longer than anything else.
    pub(super) fn new(body: Incoming, limits: &Limits, file: bool) -> Self {
        let deadline = Instant::now() + if file { limits.upload_timeout } else { limits.body_timeout };
        Self { body, idle_timeout: limits.body_idle_timeout, deadline, waiting: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body.frame()).poll(context) {
            self.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let until = self.deadline.min(Instant::now() + self.idle_timeout);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(until)));
        waiting.as_mut().poll(context).map(|()| Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
