//! What users read of rooms.

mod large;
mod markers;
mod pages;
mod visibility;
