//! What `/sync` tells.

mod exactly_once;
mod filters;
mod sections;
mod waiting;
