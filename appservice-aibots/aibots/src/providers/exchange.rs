//! One request and its reply, whole or in pieces: what is the same for all providers that speak HTTP.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, header::CONTENT_TYPE};
use serde_json::Value;

use super::{
    retry_after::retry_after,
    sse::{Event, Parser},
};
use crate::{
    http::{self, HttpFault},
    provider::{Answer, Error, Progress},
};

/// The largest reply in one piece. An answer of 8,000 tokens has 50 kB.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest reply that says what went wrong. Web servers in between put whole pages there.
const FAULT_BYTES_MAX: usize = 64 * 1024;
/// How long to wait for what may follow when the answer is complete: the usage.
const AFTERMATH_MAX: Duration = Duration::from_secs(2);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of the reply, and between two pieces of it.
    pub(super) silence_max: Duration,
    /// For the whole of it.
    pub(super) whole_max: Duration,
}

/// A reply that is not an answer.
pub(super) struct Fault {
    /// The HTTP status, or the one that an error in the middle of a stream names.
    pub(super) status: u16,
    /// How long to wait before the next try.
    pub(super) retry_after: Option<Duration>,
    /// The body, `Null` if it is not JSON.
    pub(super) body: Value,
}

/// What came instead of an answer: either a fault that the provider's own rules must judge, or a plain error.
pub(super) enum Failure {
    /// To be judged.
    Fault(Fault),
    /// Clear already.
    Error(Error),
}

/// How far an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// More is to come.
    More,
    /// The answer is complete, but its usage may follow.
    Complete,
    /// Nothing follows.
    Done,
}

/// Puts an answer together out of a provider's events.
pub(super) trait Assembler {
    /// The next event of a stream.
    fn event(&mut self, event: &Event, progress: &Progress) -> Result<Step, Failure>;

    /// The reply in one piece, from servers that do not stream.
    fn whole(&mut self, reply: Value, progress: &Progress) -> Result<(), Failure>;

    /// The answer, when nothing follows.
    fn finish(self) -> Result<Answer, Error>;
}

/// Sends the request and puts the answer together.
pub(super) async fn exchange<A: Assembler>(
    request: RequestBuilder,
    mut assembler: A,
    patience: Patience,
    progress: &Progress,
) -> Result<Answer, Failure> {
    let run = async {
        let response = http::send(request, patience.silence_max).await?;
        if !response.status().is_success() {
            return Err(Failure::Fault(fault_of(response, patience).await));
        }
        if is_event_stream(&response) {
            stream(response, &mut assembler, patience, progress).await?;
        } else {
            let body = http::body(response, REPLY_BYTES_MAX, patience.whole_max).await?;
            let reply = serde_json::from_slice(&body).map_err(|_| Error::Malformed("the reply is not JSON"))?;
            assembler.whole(reply, progress)?;
        }
        Ok(assembler.finish()?)
    };
    tokio::time::timeout(patience.whole_max, run).await.unwrap_or(Err(Failure::Error(Error::Timeout)))
}

fn is_event_stream(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

async fn fault_of(response: Response, patience: Patience) -> Fault {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let body = http::body(response, FAULT_BYTES_MAX, patience.silence_max).await.unwrap_or_default();
    Fault { status, retry_after, body: serde_json::from_slice(&body).unwrap_or_default() }
}

async fn stream<A: Assembler>(
    mut response: Response,
    assembler: &mut A,
    patience: Patience,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut parser = Parser::default();
    let mut step = Step::More;
    loop {
        let silence_max = if step == Step::More { patience.silence_max } else { AFTERMATH_MAX };
        let piece = match http::chunk(&mut response, silence_max).await {
            Ok(piece) => piece,
            // The words are all there; how many they were is not worth losing them.
            Err(_) if step == Step::Complete => return Ok(()),
            Err(fault) => return Err(fault.into()),
        };
        let (events, is_end) = match piece {
            Some(piece) => (parser.feed(&piece)?, false),
            None => (std::mem::take(&mut parser).finish()?, true),
        };
        for event in events {
            // A late event without news must not take back that the answer is complete.
            match assembler.event(&event, progress)? {
                Step::Done => return Ok(()),
                Step::Complete => step = Step::Complete,
                Step::More => {}
            }
        }
        match (is_end, step) {
            (false, _) => {}
            (true, Step::More) => return Err(Failure::Error(Error::Unreachable)),
            (true, _) => return Ok(()),
        }
    }
}

impl From<HttpFault> for Error {
    fn from(fault: HttpFault) -> Self {
        match fault {
            HttpFault::Unreachable => Self::Unreachable,
            HttpFault::Timeout => Self::Timeout,
            HttpFault::TooLarge => Self::Malformed("the reply is too large"),
        }
    }
}

impl From<HttpFault> for Failure {
    fn from(fault: HttpFault) -> Self {
        Self::Error(fault.into())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
