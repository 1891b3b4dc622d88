//! Sending events that are delivered to whoever is in the room for a while.
//!
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4354>

use rules::event::sticky::DURATION_MAX_MS;

use crate::{Result, error::ApiError, query};

/// The parameter that says for how long.
const DURATION: &str = "org.matrix.msc4354.sticky_duration_ms";

/// For how long an event is to be sticky, in milliseconds, if it is.
pub(crate) fn duration_ms(query: &str) -> Result<Option<u32>> {
    let Some(text) = query::parameter(query, DURATION)? else { return Ok(None) };
    let duration_ms = text.parse::<u32>().ok().filter(|duration_ms| *duration_ms <= DURATION_MAX_MS);
    let refuse = || ApiError::invalid_param(format!("{DURATION} is a number from 0 to {DURATION_MAX_MS}"));
    duration_ms.ok_or_else(refuse).map(|duration_ms| (duration_ms > 0).then_some(duration_ms))
}
