//! Decisions about whole rooms, made of real signed events. The folders mirror `src`.

#![expect(clippy::needless_pass_by_value, reason = "`json!` stands where its value is needed")]

mod bounded;
mod event;
mod push;
mod room;
mod room_fixture;
