//! The servers that we wait to try again.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName};

/// At most as many as there are servers in our rooms.
#[derive(Default)]
pub(super) struct Failing {
    servers: Mutex<HashSet<OwnedServerName>>,
}

impl Failing {
    pub(super) fn insert(&self, server: &ServerName) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned());
    }

    /// Whether it was there.
    pub(super) fn remove(&self, server: &ServerName) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(server)
    }

    pub(super) fn contains(&self, server: &ServerName) -> bool {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).contains(server)
    }
}
