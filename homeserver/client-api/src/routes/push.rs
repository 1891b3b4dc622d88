//! Push rules, pushers and notifications.

use ruma::api::client::push;

use super::table::{Table, at};

/// Clients differ in whether they end these with a slash.
const PUSH_RULES_WITHOUT_SLASH: &[&str] = &["/_matrix/client/r0/pushrules", "/_matrix/client/v3/pushrules"];

const GLOBAL_PUSH_RULES_WITHOUT_SLASH: &[&str] =
    &["/_matrix/client/r0/pushrules/global", "/_matrix/client/v3/pushrules/global"];

pub(super) fn rows(table: Table) -> Table {
    use crate::{notifications, pushers, pushrules};
    table
        .asked_for::<push::get_pushrules_all::v3::Request, _, _>(
            at("get_matrixclientv3pushrules").also_at(PUSH_RULES_WITHOUT_SLASH),
            pushrules::all,
        )
        .asked_for::<push::get_pushrules_global_scope::v3::Request, _, _>(
            at("get_matrixclientv3pushrulesglobal").also_at(GLOBAL_PUSH_RULES_WITHOUT_SLASH),
            pushrules::global,
        )
        .asked::<push::get_pushrule::v3::Request, _>(at("get_matrixclientv3pushrulesglobalkindruleid"), pushrules::get)
        .asked::<push::set_pushrule::v3::Request, _>(at("put_matrixclientv3pushrulesglobalkindruleid"), pushrules::put)
        .asked::<push::delete_pushrule::v3::Request, _>(
            at("delete_matrixclientv3pushrulesglobalkindruleid"),
            pushrules::delete,
        )
        .asked::<push::get_pushrule_enabled::v3::Request, _>(
            at("get_matrixclientv3pushrulesglobalkindruleidenabled"),
            pushrules::get_enabled,
        )
        .asked::<push::set_pushrule_enabled::v3::Request, _>(
            at("put_matrixclientv3pushrulesglobalkindruleidenabled"),
            pushrules::put_enabled,
        )
        .asked::<push::get_pushrule_actions::v3::Request, _>(
            at("get_matrixclientv3pushrulesglobalkindruleidactions"),
            pushrules::get_actions,
        )
        .asked::<push::set_pushrule_actions::v3::Request, _>(
            at("put_matrixclientv3pushrulesglobalkindruleidactions"),
            pushrules::put_actions,
        )
        .asked::<push::get_pushers::v3::Request, _>(at("get_matrixclientv3pushers"), pushers::list)
        .asked::<push::set_pusher::v3::Request, _>(at("post_matrixclientv3pushersset"), pushers::set)
        .asked::<push::get_notifications::v3::Request, _>(at("get_matrixclientv3notifications"), notifications::list)
}
