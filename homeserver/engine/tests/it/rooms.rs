//! What users read of rooms.

mod markers;
mod pages;
mod visibility;
