//! What administrators do, and what users tell them.

use ruma::api::client::{admin, reporting, room};

use super::table::{Table, at};

/// The chapters of what the specification does not have, but extends.
const REPORTING: &str = "reporting-content";
const NOTICES: &str = "server-notices";

pub(super) fn rows(table: Table) -> Table {
    operation(complaints(administration(table)))
}

fn administration(table: Table) -> Table {
    use crate::admin as administrate;
    table
        .asked::<admin::get_user_info::v3::Request, _>(
            at("get_matrixclientv3adminwhoisuserid").about_anybody(),
            administrate::whois,
        )
        .asked::<admin::is_user_locked::v1::Request, _>(
            at("get_matrixclientv1adminlockuserid").about_anybody(),
            administrate::is_locked,
        )
        .asked::<admin::lock_user::v1::Request, _>(
            at("put_matrixclientv1adminlockuserid").about_anybody(),
            administrate::lock,
        )
        .asked::<admin::is_user_suspended::v1::Request, _>(
            at("get_matrixclientv1adminsuspenduserid").about_anybody(),
            administrate::is_suspended,
        )
        .asked::<admin::suspend_user::v1::Request, _>(
            at("put_matrixclientv1adminsuspenduserid").about_anybody(),
            administrate::suspend,
        )
}

fn complaints(table: Table) -> Table {
    use crate::{rooms, users};
    table
        .asked::<room::report_content::v3::Request, _>(
            at("post_matrixclientv3roomsroomidreporteventid"),
            rooms::report::event,
        )
        .asked::<room::report_room::v3::Request, _>(at("post_matrixclientv3roomsroomidreport"), rooms::report::room)
        .asked::<reporting::report_user::v3::Request, _>(
            at("post_matrixclientv3usersuseridreport").of_others(),
            users::report::user,
        )
}

fn operation(table: Table) -> Table {
    use crate::admin;
    table
        .asked_for::<admin::event_reports::List, _, _>(at(REPORTING), admin::event_reports::list)
        .asked_for::<admin::event_reports::One, _, _>(at(REPORTING), admin::event_reports::one)
        .asked_for::<admin::send_server_notice::Once, _, _>(at(NOTICES), admin::send_server_notice::send)
        .asked_for::<admin::send_server_notice::ByTransaction, _, _>(
            at(NOTICES),
            admin::send_server_notice::send_by_transaction,
        )
}
