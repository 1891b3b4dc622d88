//! The authorisation rules. Their numbers are those of version 12:
//! <https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules>

mod auth_events;
mod create;
mod levels;
mod power_levels;
