//! Other networks, and what is vouched for towards other services.

use ruma::api::client::{account, appservice, thirdparty, voip};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// What the specification knows nothing of.
const BOTS: &str = "docs/ai-bots.md";

pub(super) fn rows(table: Table) -> Table {
    use crate::{ai, appservice as services, thirdparty as networks, user, voip as calls};
    table
        .asked_for::<ai::List, _, _>(at(BOTS).rated(Class::Costly), ai::bots)
        .asked_for::<ai::Add, _, _>(at(BOTS).rated(Class::Membership), ai::add_to_conversation)
        .asked::<appservice::request_ping::v1::Request, _>(
            at("https://spec.matrix.org/v1.19/application-service-api/#post_matrixclientv1appserviceappserviceidping"),
            services::ping,
        )
        .asked::<account::request_openid_token::v3::Request, _>(
            at("post_matrixclientv3useruseridopenidrequest_token"),
            user::openid::request_token,
        )
        .asked_for::<voip::get_turn_server_info::v3::Request, _, _>(
            at("get_matrixclientv3voipturnserver"),
            calls::turn_server,
        )
        .asked_for::<thirdparty::get_protocols::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartyprotocols"),
            networks::protocols,
        )
        .asked_for::<thirdparty::get_protocol::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartyprotocolprotocol"),
            networks::protocol,
        )
        .asked_for::<thirdparty::get_location_for_protocol::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartylocationprotocol"),
            networks::locations,
        )
        .asked_for::<thirdparty::get_user_for_protocol::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartyuserprotocol"),
            networks::users,
        )
        .asked_for::<thirdparty::get_location_for_room_alias::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartylocation"),
            networks::locations_by_alias,
        )
        .asked_for::<thirdparty::get_user_for_user_id::v3::Request, _, _>(
            at("get_matrixclientv3thirdpartyuser"),
            networks::users_by_id,
        )
}
