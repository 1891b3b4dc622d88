//! Keys of devices, messages to devices, and backups of keys.

use ruma::api::client::{backup, keys, to_device};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// The proposal of devices that are left behind.
const DEHYDRATION: &str = "https://github.com/matrix-org/matrix-spec-proposals/pull/3814";

pub(super) fn rows(table: Table) -> Table {
    dehydrated(backups(encryption(table)))
}

fn dehydrated(table: Table) -> Table {
    use crate::dehydrated_device as device;
    table
        .asked_for::<device::Put, _, _>(at(DEHYDRATION), device::put)
        .asked_for::<device::Get, _, _>(at(DEHYDRATION), device::get)
        .asked_for::<device::Delete, _, _>(at(DEHYDRATION), device::delete)
        .asked_for::<device::Events, _, _>(at(DEHYDRATION), device::events)
        .asked_for::<device::EventsByBody, _, _>(at(DEHYDRATION), device::events_by_body)
}

fn encryption(table: Table) -> Table {
    use crate::{keys as handlers, send_to_device};
    table
        .asked::<keys::upload_keys::v3::Request, _>(at("post_matrixclientv3keysupload"), handlers::upload::upload)
        .asked::<keys::get_keys::v3::Request, _>(
            at("post_matrixclientv3keysquery").rated(Class::Keys),
            handlers::query::query,
        )
        .asked::<keys::claim_keys::v3::Request, _>(
            at("post_matrixclientv3keysclaim").rated(Class::Keys),
            handlers::claim::claim,
        )
        .asked::<keys::get_key_changes::v3::Request, _>(at("get_matrixclientv3keyschanges"), handlers::changes::changes)
        .asked::<keys::upload_signing_keys::v3::Request, _>(
            at("post_matrixclientv3keysdevice_signingupload").interactive(),
            handlers::device_signing::upload,
        )
        .asked::<keys::upload_signatures::v3::Request, _>(
            at("post_matrixclientv3keyssignaturesupload"),
            handlers::signatures::upload,
        )
        .asked::<to_device::send_event_to_device::v3::Request, _>(
            at("put_matrixclientv3sendtodeviceeventtypetxnid").rated(Class::ToDevice),
            send_to_device::put,
        )
}

fn backups(table: Table) -> Table {
    use crate::room_keys::{keys, version};
    table
        .asked::<backup::create_backup_version::v3::Request, _>(
            at("post_matrixclientv3room_keysversion"),
            version::post,
        )
        .asked::<backup::get_latest_backup_info::v3::Request, _>(
            at("get_matrixclientv3room_keysversion"),
            version::latest,
        )
        .asked::<backup::get_backup_info::v3::Request, _>(at("get_matrixclientv3room_keysversionversion"), version::get)
        .asked::<backup::update_backup_version::v3::Request, _>(
            at("put_matrixclientv3room_keysversionversion"),
            version::put,
        )
        .asked::<backup::delete_backup_version::v3::Request, _>(
            at("delete_matrixclientv3room_keysversionversion"),
            version::delete,
        )
        .asked::<backup::add_backup_keys::v3::Request, _>(at("put_matrixclientv3room_keyskeys"), keys::put)
        .asked::<backup::get_backup_keys::v3::Request, _>(at("get_matrixclientv3room_keyskeys"), keys::get)
        .asked::<backup::delete_backup_keys::v3::Request, _>(at("delete_matrixclientv3room_keyskeys"), keys::delete)
        .asked::<backup::add_backup_keys_for_room::v3::Request, _>(
            at("put_matrixclientv3room_keyskeysroomid"),
            keys::put_of_room,
        )
        .asked::<backup::get_backup_keys_for_room::v3::Request, _>(
            at("get_matrixclientv3room_keyskeysroomid"),
            keys::get_of_room,
        )
        .asked::<backup::delete_backup_keys_for_room::v3::Request, _>(
            at("delete_matrixclientv3room_keyskeysroomid"),
            keys::delete_of_room,
        )
        .asked::<backup::add_backup_keys_for_session::v3::Request, _>(
            at("put_matrixclientv3room_keyskeysroomidsessionid"),
            keys::put_one,
        )
        .asked::<backup::get_backup_keys_for_session::v3::Request, _>(
            at("get_matrixclientv3room_keyskeysroomidsessionid"),
            keys::get_one,
        )
        .asked::<backup::delete_backup_keys_for_session::v3::Request, _>(
            at("delete_matrixclientv3room_keyskeysroomidsessionid"),
            keys::delete_one,
        )
}
