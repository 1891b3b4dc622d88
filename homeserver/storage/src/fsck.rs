//! Checking that the tables tell one story.

use std::fmt;

use crate::{Result, Storage};

/// Something that must hold and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What must hold.
    pub invariant: &'static str,
    /// Where it does not: ids.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant, self.detail)
    }
}

impl Storage {
    /// Checks the invariants between the tables and returns what violates them. Reads everything; meant for an
    /// operator, not for a running server under load.
    pub async fn fsck(&self) -> Result<Vec<Violation>> {
        unimplemented!()
    }
}
