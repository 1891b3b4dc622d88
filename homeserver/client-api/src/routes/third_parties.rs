//! Other networks, and what is vouched for towards other services.

use ruma::api::client::{account, thirdparty, voip};

use super::table::{Table, at};

pub(super) fn rows(table: Table) -> Table {
    use crate::{thirdparty as networks, user, voip as calls};
    table
        .asked::<account::request_openid_token::v3::Request, _>(
            at("post_matrixclientv3useruseridopenidrequest_token"),
            user::openid::request_token,
        )
        .asked_for::<voip::get_turn_server_info::v3::Request, _, _>(
            at("get_matrixclientv3voipturnserver"),
            calls::turn_server,
        )
        .asked::<thirdparty::get_protocols::v3::Request, _>(
            at("get_matrixclientv3thirdpartyprotocols"),
            networks::protocols,
        )
        .asked::<thirdparty::get_protocol::v3::Request, _>(
            at("get_matrixclientv3thirdpartyprotocolprotocol"),
            networks::protocol,
        )
        .asked::<thirdparty::get_location_for_protocol::v3::Request, _>(
            at("get_matrixclientv3thirdpartylocationprotocol"),
            networks::locations,
        )
        .asked::<thirdparty::get_user_for_protocol::v3::Request, _>(
            at("get_matrixclientv3thirdpartyuserprotocol"),
            networks::users,
        )
        .asked::<thirdparty::get_location_for_room_alias::v3::Request, _>(
            at("get_matrixclientv3thirdpartylocation"),
            networks::locations_by_alias,
        )
        .asked::<thirdparty::get_user_for_user_id::v3::Request, _>(
            at("get_matrixclientv3thirdpartyuser"),
            networks::users_by_id,
        )
}
