//! The table of endpoints: one row each, with the section of the specification, ruma's request type and the handler.
//!
//! ruma's types bring method and paths, with all their versions. `docs/spec-coverage.md` is made from
//! [`route_table`], and tests walk it, so that no endpoint can forget who may ask.

mod table;

use axum::{Router, http::Method};
use ruma::api::client::{
    account, admin, alias, appservice, backup, config, context, device, directory, discovery, filter, keys, knock,
    membership, message, presence, profile, push, read_marker, receipt, redact, relations, reporting, room, search,
    session, space, state, tag, thirdparty, threads, to_device, typing, uiaa, user_directory, voip,
};

pub(crate) use self::table::Endpoint;
use self::table::{Table, at};
use crate::{Door, rate_limits::Class};

/// One endpoint, as tests and documentation see it.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// All its paths; `{name}` stands for one segment.
    pub paths: Vec<&'static str>,
    /// Whether it asks for an access token.
    pub authentication: Authentication,
    /// Whether a user in its path is another one than the one who asks.
    pub of_others: bool,
    /// Where the specification describes it, a URL.
    pub section: String,
}

/// Whether an endpoint asks for an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Anybody may ask.
    None,
    /// Users only.
    AccessToken,
    /// Users, and whoever shows an address of theirs.
    Optional,
}

/// An empty state key may be left out, with its slash or without.
const STATE_WITHOUT_KEY: &[&str] = &[
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
];

/// The chapters of what the specification does not have, but extends.
const CLIENT_CONFIG: &str = "client-config";
const SENDING: &str = "sending-events-to-a-room";
const REPORTING: &str = "reporting-content";
const NOTICES: &str = "server-notices";
/// Where clients ask that were made when summaries were a proposal (MSC3266), and called it by another name.
const SUMMARY_BEFORE_IT_WAS_STABLE: &[&str] = &["/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}"];

/// ruma knows no type for it, so this path it does not list.
const INITIAL_SYNC_OF_OLD: &[&str] = &["/_matrix/client/r0/rooms/{room_id}/initialSync"];

/// Clients differ in whether they end these with a slash.
const PUSH_RULES_WITHOUT_SLASH: &[&str] = &["/_matrix/client/r0/pushrules", "/_matrix/client/v3/pushrules"];
const GLOBAL_PUSH_RULES_WITHOUT_SLASH: &[&str] =
    &["/_matrix/client/r0/pushrules/global", "/_matrix/client/v3/pushrules/global"];

/// What this door serves.
pub fn route_table() -> Vec<Route> {
    table().routes
}

/// The same as a router.
pub(crate) fn router() -> Router<Door> {
    table().router.merge(crate::pages::router())
}

fn table() -> Table {
    let table = Table::default();
    let table = administration(third_parties(confirmations(accounts(discovery(table)))));
    let table = backups(encryption(directories(profiles_and_data(table))));
    operation(delayed(complaints(tags(relating(reading(changing(memberships(table))))))))
}

fn discovery(table: Table) -> Table {
    use crate::{capabilities, versions, well_known};
    table
        .open::<discovery::get_supported_versions::Request, _>(at("get_matrixclientversions"), versions::versions)
        .open::<discovery::discover_homeserver::Request, _>(at("getwell-knownmatrixclient"), well_known::client)
        .open::<discovery::discover_support::Request, _>(at("getwell-knownmatrixsupport"), well_known::support)
        .asked::<discovery::get_capabilities::v3::Request, _>(
            at("get_matrixclientv3capabilities"),
            capabilities::capabilities,
        )
}

fn accounts(table: Table) -> Table {
    use crate::{account as accounts, devices, login, logout, refresh, register};
    table
        .open::<account::register::v3::Request, _>(at("post_matrixclientv3register").interactive(), register::register)
        .open::<account::get_username_availability::v3::Request, _>(
            at("get_matrixclientv3registeravailable"),
            register::available::available,
        )
        .open::<account::check_registration_token_validity::v1::Request, _>(
            at("get_matrixclientv1registermloginregistration_tokenvalidity").rated(Class::RegistrationToken),
            register::token_validity::token_validity,
        )
        .open::<session::get_login_types::v3::Request, _>(at("get_matrixclientv3login"), login::types)
        .open::<session::login::v3::Request, _>(
            at("post_matrixclientv3login").rated(Class::Login).mended(login::require_type),
            login::login,
        )
        .asked::<session::get_login_token::v1::Request, _>(
            at("post_matrixclientv1loginget_token").interactive(),
            login::get_token::get_token,
        )
        .open::<session::refresh_token::v3::Request, _>(
            at("post_matrixclientv3refresh").rated(Class::Refresh),
            refresh::refresh,
        )
        .asked::<session::logout::v3::Request, _>(at("post_matrixclientv3logout"), logout::logout)
        .asked::<session::logout_all::v3::Request, _>(at("post_matrixclientv3logoutall"), logout::all)
        .asked::<account::whoami::v3::Request, _>(at("get_matrixclientv3accountwhoami"), accounts::whoami::whoami)
        .either::<account::change_password::v3::Request, _>(
            at("post_matrixclientv3accountpassword").interactive(),
            accounts::password::password,
        )
        .either::<account::deactivate::v3::Request, _>(
            at("post_matrixclientv3accountdeactivate").interactive(),
            accounts::deactivate::deactivate,
        )
        .asked::<device::get_devices::v3::Request, _>(at("get_matrixclientv3devices"), devices::list)
        .asked::<device::get_device::v3::Request, _>(at("get_matrixclientv3devicesdeviceid"), devices::get)
        .asked::<device::update_device::v3::Request, _>(at("put_matrixclientv3devicesdeviceid"), devices::put)
        .asked::<device::delete_device::v3::Request, _>(
            at("delete_matrixclientv3devicesdeviceid").interactive(),
            devices::delete,
        )
        .asked::<device::delete_devices::v3::Request, _>(
            at("post_matrixclientv3delete_devices").interactive(),
            devices::delete_several,
        )
}

fn confirmations(table: Table) -> Table {
    use crate::{account::third_party_ids as ids, pages};
    table
        .open_for::<uiaa::get_uiaa_fallback_page::v3::Request, _, _>(at("fallback"), pages::fallback)
        .open::<account::request_registration_token_via_email::v3::Request, _>(
            at("post_matrixclientv3registeremailrequesttoken"),
            ids::email_to_register,
        )
        .open::<account::request_registration_token_via_msisdn::v3::Request, _>(
            at("post_matrixclientv3registermsisdnrequesttoken"),
            ids::msisdn_to_register,
        )
        .open::<account::request_password_change_token_via_email::v3::Request, _>(
            at("post_matrixclientv3accountpasswordemailrequesttoken"),
            ids::email_for_password,
        )
        .open::<account::request_password_change_token_via_msisdn::v3::Request, _>(
            at("post_matrixclientv3accountpasswordmsisdnrequesttoken"),
            ids::msisdn_for_password,
        )
        .open::<account::request_3pid_management_token_via_email::v3::Request, _>(
            at("post_matrixclientv3account3pidemailrequesttoken"),
            ids::email_to_add,
        )
        .open::<account::request_3pid_management_token_via_msisdn::v3::Request, _>(
            at("post_matrixclientv3account3pidmsisdnrequesttoken"),
            ids::msisdn_to_add,
        )
}

fn third_parties(table: Table) -> Table {
    use crate::{account::third_party_ids as ids, thirdparty as networks, user, voip as calls};
    table
        .asked_for::<account::get_3pids::v3::Request, _, _>(at("get_matrixclientv3account3pid"), ids::list)
        .asked::<ids::OlderRequest, _>(at("post_matrixclientv3account3pid"), ids::post)
        .asked::<account::add_3pid::v3::Request, _>(at("post_matrixclientv3account3pidadd").interactive(), ids::add)
        .asked::<account::delete_3pid::v3::Request, _>(at("post_matrixclientv3account3piddelete"), ids::delete)
        .asked::<account::bind_3pid::v3::Request, _>(at("post_matrixclientv3account3pidbind"), ids::bind)
        .asked::<account::unbind_3pid::v3::Request, _>(at("post_matrixclientv3account3pidunbind"), ids::unbind)
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

fn profiles_and_data(table: Table) -> Table {
    use crate::{presence as presences, profile as profiles, user};
    push_rules(table)
        .open::<profile::get_profile::v3::Request, _>(at("get_matrixclientv3profileuserid"), profiles::get)
        .open::<profile::get_profile_field::v3::Request, _>(
            at("get_matrixclientv3profileuseridkeyname"),
            profiles::get_field,
        )
        .asked::<profiles::SetField, _>(
            at("put_matrixclientv3profileuseridkeyname").rated(Class::Profile),
            profiles::put_field,
        )
        .asked::<profile::delete_profile_field::v3::Request, _>(
            at("delete_matrixclientv3profileuseridkeyname").rated(Class::Profile),
            profiles::delete_field,
        )
        .asked::<presence::get_presence::v3::Request, _>(
            at("get_matrixclientv3presenceuseridstatus").about_anybody(),
            presences::get,
        )
        .asked::<presence::set_presence::v3::Request, _>(at("put_matrixclientv3presenceuseridstatus"), presences::put)
        .asked::<config::get_global_account_data::v3::Request, _>(
            at("get_matrixclientv3useruseridaccount_datatype"),
            user::account_data::get,
        )
        .asked::<config::set_global_account_data::v3::Request, _>(
            at("put_matrixclientv3useruseridaccount_datatype"),
            user::account_data::put,
        )
        .asked::<config::get_room_account_data::v3::Request, _>(
            at("get_matrixclientv3useruseridroomsroomidaccount_datatype"),
            user::account_data::get_of_room,
        )
        .asked::<config::set_room_account_data::v3::Request, _>(
            at("put_matrixclientv3useruseridroomsroomidaccount_datatype"),
            user::account_data::put_of_room,
        )
        .asked::<filter::create_filter::v3::Request, _>(at("post_matrixclientv3useruseridfilter"), user::filter::post)
        .asked::<filter::get_filter::v3::Request, _>(
            at("get_matrixclientv3useruseridfilterfilterid"),
            user::filter::get,
        )
}

fn push_rules(table: Table) -> Table {
    use crate::{notifications, pushrules};
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
        .asked::<push::get_notifications::v3::Request, _>(at("get_matrixclientv3notifications"), notifications::list)
}

fn encryption(table: Table) -> Table {
    use crate::{keys as handlers, send_to_device};
    table
        .asked::<keys::upload_keys::v3::Request, _>(at("post_matrixclientv3keysupload"), handlers::upload::upload)
        .asked::<keys::get_keys::v3::Request, _>(at("post_matrixclientv3keysquery"), handlers::query::query)
        .asked::<keys::claim_keys::v3::Request, _>(at("post_matrixclientv3keysclaim"), handlers::claim::claim)
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
            at("put_matrixclientv3sendtodeviceeventtypetxnid"),
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

fn directories(table: Table) -> Table {
    use crate::{directory as directories, mutual_rooms, public_rooms, room_summary, rooms, user_directory as users};
    table
        .open::<alias::get_alias::v3::Request, _>(
            at("get_matrixclientv3directoryroomroomalias"),
            directories::room::get,
        )
        .asked::<alias::create_alias::v3::Request, _>(
            at("put_matrixclientv3directoryroomroomalias"),
            directories::room::put,
        )
        .asked::<alias::delete_alias::v3::Request, _>(
            at("delete_matrixclientv3directoryroomroomalias"),
            directories::room::delete,
        )
        .asked::<room::aliases::v3::Request, _>(at("get_matrixclientv3roomsroomidaliases"), rooms::aliases::aliases)
        .open::<directory::get_room_visibility::v3::Request, _>(
            at("get_matrixclientv3directorylistroomroomid"),
            directories::list::get,
        )
        .asked::<directory::set_room_visibility::v3::Request, _>(
            at("put_matrixclientv3directorylistroomroomid"),
            directories::list::put,
        )
        .asked::<appservice::set_room_visibility::v3::Request, _>(
            at("put_matrixclientv3directorylistappservicenetworkidroomid"),
            directories::list::put_of_network,
        )
        .asked::<directory::get_public_rooms::v3::Request, _>(at("get_matrixclientv3publicrooms"), public_rooms::get)
        .asked::<directory::get_public_rooms_filtered::v3::Request, _>(
            at("post_matrixclientv3publicrooms"),
            public_rooms::post,
        )
        .asked::<room::get_summary::v1::Request, _>(
            at("get_matrixclientv1room_summaryroomidoralias").also_at(SUMMARY_BEFORE_IT_WAS_STABLE),
            room_summary::room_summary,
        )
        .asked::<user_directory::search_users::v3::Request, _>(
            at("post_matrixclientv3user_directorysearch"),
            users::search,
        )
        .asked::<membership::get_mutual_rooms::v1::Request, _>(
            at("get_matrixclientv1mutual_rooms"),
            mutual_rooms::mutual_rooms,
        )
        .asked::<membership::get_mutual_rooms::unstable::Request, _>(
            at("get_matrixclientv1mutual_rooms"),
            mutual_rooms::proposed,
        )
        .asked::<space::get_hierarchy::v1::Request, _>(
            at("get_matrixclientv1roomsroomidhierarchy"),
            rooms::hierarchy::hierarchy,
        )
}

fn memberships(table: Table) -> Table {
    use crate::{create_room, join, joined_rooms, knock as knocking, rooms};
    table
        .asked::<room::create_room::v3::Request, _>(
            at("post_matrixclientv3createroom").rated(Class::CreateRoom),
            create_room::create_room,
        )
        .asked::<membership::join_room_by_id_or_alias::v3::Request, _>(
            at("post_matrixclientv3joinroomidoralias").rated(Class::Membership),
            join::join,
        )
        .asked::<knock::knock_room::v3::Request, _>(
            at("post_matrixclientv3knockroomidoralias").rated(Class::Membership),
            knocking::knock,
        )
        .asked::<membership::join_room_by_id::v3::Request, _>(
            at("post_matrixclientv3roomsroomidjoin").rated(Class::Membership),
            rooms::join::join,
        )
        .asked::<membership::invite_user::v3::Request, _>(
            at("post_matrixclientv3roomsroomidinvite").rated(Class::Membership),
            rooms::invite::invite,
        )
        .asked::<membership::leave_room::v3::Request, _>(at("post_matrixclientv3roomsroomidleave"), rooms::leave::leave)
        .asked::<membership::kick_user::v3::Request, _>(at("post_matrixclientv3roomsroomidkick"), rooms::kick::kick)
        .asked::<membership::ban_user::v3::Request, _>(at("post_matrixclientv3roomsroomidban"), rooms::ban::ban)
        .asked::<membership::unban_user::v3::Request, _>(at("post_matrixclientv3roomsroomidunban"), rooms::unban::unban)
        .asked::<room::upgrade_room::v3::Request, _>(
            at("post_matrixclientv3roomsroomidupgrade").rated(Class::CreateRoom),
            rooms::upgrade::upgrade,
        )
        .asked::<membership::forget_room::v3::Request, _>(
            at("post_matrixclientv3roomsroomidforget"),
            rooms::forget::forget,
        )
        .asked::<membership::joined_rooms::v3::Request, _>(
            at("get_matrixclientv3joined_rooms"),
            joined_rooms::joined_rooms,
        )
}

fn changing(table: Table) -> Table {
    use crate::rooms;
    table
        .asked_for::<message::send_message_event::v3::Request, _, _>(
            at("put_matrixclientv3roomsroomidsendeventtypetxnid").rated(Class::Message),
            rooms::send::send,
        )
        .asked_for::<state::send_state_event::v3::Request, _, _>(
            at("put_matrixclientv3roomsroomidstateeventtypestatekey").rated(Class::Message).also_at(STATE_WITHOUT_KEY),
            rooms::state::put,
        )
        .asked::<redact::redact_event::v3::Request, _>(
            at("put_matrixclientv3roomsroomidredacteventidtxnid").rated(Class::Message),
            rooms::redact::redact,
        )
        .asked::<typing::create_typing_event::v3::Request, _>(
            at("put_matrixclientv3roomsroomidtypinguserid").mended(rooms::typing::with_timeout),
            rooms::typing::typing,
        )
        .asked::<receipt::create_receipt::v3::Request, _>(
            at("post_matrixclientv3roomsroomidreceiptreceipttypeeventid"),
            rooms::receipt::receipt,
        )
        .asked::<read_marker::set_read_marker::v3::Request, _>(
            at("post_matrixclientv3roomsroomidread_markers"),
            rooms::read_markers::read_markers,
        )
}

fn reading(table: Table) -> Table {
    use crate::{rooms, sync as syncing};
    table
        .asked::<syncing::Request, _>(at("get_matrixclientv3sync"), syncing::sync)
        .asked::<syncing::sliding::Request, _>(
            at("https://github.com/matrix-org/matrix-spec-proposals/pull/4186"),
            syncing::sliding::sliding_sync,
        )
        .asked::<state::get_state_events::v3::Request, _>(at("get_matrixclientv3roomsroomidstate"), rooms::state::list)
        .asked::<state::get_state_event_for_key::v3::Request, _>(
            at("get_matrixclientv3roomsroomidstateeventtypestatekey").also_at(STATE_WITHOUT_KEY),
            rooms::state::get,
        )
        .asked::<membership::get_member_events::v3::Request, _>(
            at("get_matrixclientv3roomsroomidmembers"),
            rooms::members::members,
        )
        .asked::<membership::joined_members::v3::Request, _>(
            at("get_matrixclientv3roomsroomidjoined_members"),
            rooms::joined_members::joined_members,
        )
        .asked::<message::get_message_events::v3::Request, _>(
            at("get_matrixclientv3roomsroomidmessages").rated(Class::Costly),
            rooms::messages::messages,
        )
        .asked::<room::get_event_by_timestamp::v1::Request, _>(
            at("get_matrixclientv1roomsroomidtimestamp_to_event"),
            rooms::timestamp_to_event::timestamp_to_event,
        )
        .asked::<rooms::initial_sync::Request, _>(
            at("get_matrixclientv3roomsroomidinitialsync").also_at(INITIAL_SYNC_OF_OLD),
            rooms::initial_sync::initial_sync,
        )
        .asked::<room::get_room_event::v3::Request, _>(
            at("get_matrixclientv3roomsroomideventeventid"),
            rooms::event::event,
        )
        .asked::<context::get_context::v3::Request, _>(
            at("get_matrixclientv3roomsroomidcontexteventid").rated(Class::Costly),
            rooms::context::context,
        )
}

fn relating(table: Table) -> Table {
    use crate::{rooms, search as searching};
    table
        .asked::<relations::get_relating_events::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventid"),
            rooms::relations::relations,
        )
        .asked::<relations::get_relating_events_with_rel_type::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventidreltype"),
            rooms::relations::relations_of_kind,
        )
        .asked::<relations::get_relating_events_with_rel_type_and_event_type::v1::Request, _>(
            at("get_matrixclientv1roomsroomidrelationseventidreltypeeventtype"),
            rooms::relations::relations_of_kind_and_type,
        )
        .asked::<threads::get_threads::v1::Request, _>(
            at("get_matrixclientv1roomsroomidthreads"),
            rooms::threads::threads,
        )
        .asked_for::<search::search_events::v3::Request, _, _>(at("post_matrixclientv3search"), searching::search)
}

fn tags(table: Table) -> Table {
    use crate::user;
    table
        .asked::<tag::get_tags::v3::Request, _>(at("get_matrixclientv3useruseridroomsroomidtags"), user::tags::get)
        .asked::<tag::create_tag::v3::Request, _>(at("put_matrixclientv3useruseridroomsroomidtagstag"), user::tags::put)
        .asked::<tag::delete_tag::v3::Request, _>(
            at("delete_matrixclientv3useruseridroomsroomidtagstag"),
            user::tags::delete,
        )
        .asked::<user::account_data::Deletion, _>(at(CLIENT_CONFIG), user::account_data::delete)
        .asked::<user::account_data::DeletionOfRoom, _>(at(CLIENT_CONFIG), user::account_data::delete_of_room)
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

fn delayed(table: Table) -> Table {
    use crate::delayed_events as waiting;
    table
        .asked_for::<waiting::List, _, _>(at(SENDING), waiting::list)
        .asked_for::<waiting::One, _, _>(at(SENDING), waiting::one)
        .open::<waiting::Update, _>(at(SENDING), waiting::update)
        .open::<waiting::UpdateByBody, _>(at(SENDING), waiting::update_by_body)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Authentication, route_table};

    #[test]
    fn no_row_is_there_twice() {
        let mut seen = HashSet::new();
        for route in route_table() {
            for path in route.paths {
                assert!(seen.insert((route.method.clone(), path)), "{} {path}", route.method);
            }
        }
    }

    #[test]
    fn what_anybody_may_ask_is_a_short_list() {
        let open = route_table().into_iter().filter(|route| route.authentication == Authentication::None);
        let open: Vec<_> = open.map(|route| format!("{} {}", route.method, route.paths.last().unwrap())).collect();
        let expected = [
            "GET /_matrix/client/versions",
            "GET /.well-known/matrix/client",
            "GET /.well-known/matrix/support",
            "POST /_matrix/client/v3/register",
            "GET /_matrix/client/v3/register/available",
            "GET /_matrix/client/v1/register/m.login.registration_token/validity",
            "GET /_matrix/client/v3/login",
            "POST /_matrix/client/v3/login",
            "POST /_matrix/client/v3/refresh",
            "GET /_matrix/client/v3/auth/{auth_type}/fallback/web",
            "POST /_matrix/client/v3/register/email/requestToken",
            "POST /_matrix/client/v3/register/msisdn/requestToken",
            "POST /_matrix/client/v3/account/password/email/requestToken",
            "POST /_matrix/client/v3/account/password/msisdn/requestToken",
            "POST /_matrix/client/v3/account/3pid/email/requestToken",
            "POST /_matrix/client/v3/account/3pid/msisdn/requestToken",
            "GET /_matrix/client/v3/profile/{user_id}",
            "GET /_matrix/client/v3/profile/{user_id}/{field}",
            "GET /_matrix/client/v3/directory/room/{room_alias}",
            "GET /_matrix/client/v3/directory/list/room/{room_id}",
            "POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
            "POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
        ];
        assert_eq!(open, expected);
    }
}
