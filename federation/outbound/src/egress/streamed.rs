//! Answers that are read while they come.

use std::{io, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::transport_error;
use crate::{ByteStream, CallLimits, TransportError};

/// How long the other end may let us wait for its answer, or for the next piece of it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body has to come, after that time: who sends a byte now and then holds a place for nothing.
const BYTES_PER_SECOND_MIN: u64 = 4 * 1024;

/// Waits for the head of an answer. Its body ends with an error at the limit, at the deadline, and when nothing comes.
pub(super) async fn read(
    asking: impl Future<Output = Result<reqwest::Response, TransportError>>,
    limits: CallLimits,
) -> Result<http::Response<ByteStream>, TransportError> {
    let deadline = Instant::now() + limits.deadline;
    let patience = limits.deadline.min(IDLE_TIMEOUT);
    let mut answer = timeout(patience, asking).await.unwrap_or(Err(TransportError::Deadline(patience)))?;
    if answer.content_length().is_some_and(|length| length > limits.body_max_bytes as u64) {
        return Err(TransportError::TooLarge { limit_bytes: limits.body_max_bytes });
    }
    let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
    let body = Body { answer, left: limits.body_max_bytes, begun: Instant::now(), read_bytes: 0, deadline };
    let mut response = http::Response::new(stream::try_unfold(body, next).boxed());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

struct Body {
    answer: reqwest::Response,
    left: usize,
    begun: Instant,
    read_bytes: u64,
    deadline: Instant,
}

async fn next(mut body: Body) -> io::Result<Option<(bytes::Bytes, Body)>> {
    let earned = Duration::from_secs(body.read_bytes / BYTES_PER_SECOND_MIN);
    let until = body.deadline.min(Instant::now() + IDLE_TIMEOUT).min(body.begun + IDLE_TIMEOUT + earned);
    let piece = timeout_at(until, body.answer.chunk()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let Some(piece) = piece.map_err(|error| io::Error::other(transport_error(error)))? else { return Ok(None) };
    body.read_bytes += piece.len() as u64;
    body.left = body.left.checked_sub(piece.len()).ok_or(io::ErrorKind::FileTooLarge)?;
    Ok(Some((piece, body)))
}
