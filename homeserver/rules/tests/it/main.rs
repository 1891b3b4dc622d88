//! Decisions about whole rooms, made of real signed events. The folders mirror `src`.

mod event;
mod room;
mod room_fixture;
