//! Requests that wait long, as each `/sync` does that finds nothing new.
//!
//! hyper keeps buffers of 8 KiB and more for each HTTP/1 connection, whether there is anything in them or not, and a
//! server has thousands of connections on which nothing is said for minutes. So hyper is sent away while a request waits,
//! and only the stream and the handler are kept. Once there is an answer, hyper is given the stream anew, with a stand-in
//! for the request that was read before: one of the same method, version and wish to keep the connection, which is all
//! that the form of an answer depends on.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use http::{Request, Response, Version, header::CONNECTION};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use super::{body::BodyRead, write_timeout::WriteTimeout};

/// How much of the next request is taken while this one waits. What is read for is the end of the connection; a client
/// that has more to say is not listened to before it is answered.
const READ_AHEAD_BYTES: usize = 64;

/// Works on a request.
pub(super) type Handler = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The request of a connection, shared by hyper and whoever takes the connection from it.
#[derive(Clone, Default)]
pub(super) struct Exchange(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Whether something of an earlier answer is still to be written.
    is_writing: AtomicBool,
}

#[derive(Default)]
enum State {
    #[default]
    Nothing,
    Handled(Handling),
    /// Its stand-in is about to be read.
    Answered(Response<Body>),
}

/// A request that is worked on.
pub(super) struct Handling {
    handler: Handler,
    body: BodyRead,
    since: Instant,
    stand_in: Vec<u8>,
}

impl Handling {
    /// From now on, by `handler`, once that has read the body.
    pub(super) fn new(stand_in: Vec<u8>, body: BodyRead, handler: Handler) -> Self {
        Self { handler, body, since: Instant::now(), stand_in }
    }
}

impl Exchange {
    /// Takes in a request, unless it stands for one that is answered.
    pub(super) fn begin(&self, handling: impl FnOnce() -> Handling) {
        let mut state = self.state();
        if !matches!(*state, State::Answered(_)) {
            *state = State::Handled(handling());
        }
    }

    /// Waits for the answer.
    pub(super) async fn answer(&self) -> Response<Body> {
        poll_fn(|context| self.poll_answer(context)).await
    }

    fn poll_answer(&self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        let mut state = self.state();
        if let State::Handled(handling) = &mut *state {
            let answer = ready!(handling.handler.as_mut().poll(context));
            *state = State::Answered(answer);
        }
        match std::mem::take(&mut *state) {
            State::Answered(answer) => Poll::Ready(answer),
            State::Nothing | State::Handled(_) => Poll::Pending,
        }
    }

    /// Waits until a request has waited for so long, with nothing to be read or written meanwhile. Looks at it whenever
    /// it is polled, which the connection's task does after each step.
    pub(super) async fn waits_long(&self, patience: Duration) {
        let mut timer = pin!(sleep_until(Instant::now() + patience));
        poll_fn(|context| {
            let Some(since) = self.waits_since() else { return Poll::Pending };
            if timer.deadline() != since + patience {
                timer.as_mut().reset(since + patience);
            }
            timer.as_mut().poll(context)
        })
        .await;
    }

    fn waits_since(&self) -> Option<Instant> {
        match &*self.state() {
            State::Handled(handling) if handling.body.is_done() => {
                (!self.0.is_writing.load(Ordering::Relaxed)).then_some(handling.since)
            }
            _ => None,
        }
    }

    fn take(&self) -> Option<Handling> {
        match std::mem::take(&mut *self.state()) {
            State::Handled(handling) => Some(handling),
            State::Nothing | State::Answered(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that can be given to hyper again, with something to be read before what comes.
pub(super) struct Stream<T> {
    inner: WriteTimeout<T>,
    exchange: Exchange,
    ahead: Vec<u8>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream<T> {
    /// Nothing comes before.
    pub(super) fn new(stream: WriteTimeout<T>, exchange: Exchange) -> Self {
        Self { inner: stream, exchange, ahead: Vec::new() }
    }

    /// With something to be read before all that comes.
    pub(super) fn with_ahead(mut self, bytes: &[u8]) -> Self {
        self.ahead.splice(..0, bytes.iter().copied());
        self
    }

    /// Waits for the answer to the request that waits, after hyper was sent away. Nothing when the other end has gone.
    pub(super) async fn answered(mut self) -> Option<Self> {
        let mut handling = self.exchange.take()?;
        let answer = tokio::select! {
            biased;
            answer = handling.handler.as_mut() => answer,
            () = self.closed() => return None,
        };
        *self.exchange.state() = State::Answered(answer);
        Some(self.with_ahead(&handling.stand_in))
    }

    /// Waits until the other end closes.
    async fn closed(&mut self) {
        if self.ahead.is_empty() {
            let mut buffer = [0; READ_AHEAD_BYTES];
            let Ok(count @ 1..) = self.inner.read(&mut buffer).await else { return };
            self.ahead.extend_from_slice(&buffer[..count]);
        }
        pending::<()>().await;
    }

    fn noting<R>(&self, outcome: Poll<R>) -> Poll<R> {
        self.exchange.0.is_writing.store(outcome.is_pending(), Ordering::Relaxed);
        outcome
    }
}

/// What hyper reads in the place of a request, to write the answer to that.
pub(super) fn stand_in<B>(request: &Request<B>) -> Vec<u8> {
    let version = if request.version() == Version::HTTP_10 { "1.0" } else { "1.1" };
    let mut bytes = format!("{} / HTTP/{version}\r\n", request.method()).into_bytes();
    for value in request.headers().get_all(CONNECTION) {
        bytes.extend_from_slice(b"connection: ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..count]);
        self.ahead.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.noting(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.noting(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.noting(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
