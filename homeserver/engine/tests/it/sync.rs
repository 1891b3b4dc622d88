//! What `/sync` tells.

mod cost;
mod exactly_once;
mod filters;
mod sections;
mod waiting;
