//! Ends requests whose body does not come: hyper has no timer for that.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// Where files are uploaded.
const FILES: &str = "/_matrix/media/";

/// Whether a request's body was read to its end.
#[derive(Clone)]
pub(super) struct BodyRead(Arc<AtomicBool>);

impl BodyRead {
    /// Whether it was. Of one that was given up, nobody knows where it ends.
    pub(super) fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request's body that fails with [`io::ErrorKind::TimedOut`] when nothing comes for too long, or when it has taken
/// too long as a whole.
pub(super) struct TimedBody {
    body: Incoming,
    idle_timeout: Duration,
    deadline: Instant,
    /// Present while the other end lets us wait.
    waiting: Option<Pin<Box<Sleep>>>,
    read: BodyRead,
}

impl TimedBody {
    /// Gives a request's body its time; a file may take longer than anything else.
    pub(super) fn of(request: Request<Incoming>, limits: &Limits) -> Request<Self> {
        let is_file = request.uri().path().starts_with(FILES);
        let deadline = Instant::now() + if is_file { limits.upload_timeout } else { limits.body_timeout };
        request.map(|body| {
            let read = BodyRead(Arc::new(AtomicBool::new(body.is_end_stream())));
            Self { body, idle_timeout: limits.body_idle_timeout, deadline, waiting: None, read }
        })
    }

    /// Tells of it when it is gone.
    pub(super) fn read(&self) -> BodyRead {
        self.read.clone()
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
            if frame.is_none() {
                self.read.0.store(true, Ordering::Relaxed);
            }
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
