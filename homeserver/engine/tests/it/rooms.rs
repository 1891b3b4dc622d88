//! What users say in rooms, and read of them.

mod chain;
mod large;
mod markers;
mod pages;
mod visibility;
