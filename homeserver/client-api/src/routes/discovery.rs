//! What this server can do, and how a client finds it.

use ruma::api::client::discovery;

use super::table::{Table, at};

pub(super) fn rows(table: Table) -> Table {
    use crate::{capabilities, versions, well_known};
    table
        .open::<discovery::get_supported_versions::Request, _>(at("get_matrixclientversions"), versions::versions)
        .open::<discovery::discover_homeserver::Request, _>(at("getwell-knownmatrixclient"), well_known::client)
        .open::<discovery::discover_support::Request, _>(at("getwell-knownmatrixsupport"), well_known::support)
        .asked_for::<discovery::get_capabilities::v3::Request, _, _>(
            at("get_matrixclientv3capabilities"),
            capabilities::capabilities,
        )
}
