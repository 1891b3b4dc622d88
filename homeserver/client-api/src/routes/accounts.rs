//! Accounts, sessions and devices, and the addresses that belong to a user.

use ruma::api::client::{account, device, session, uiaa};

use super::table::{Table, at};
use crate::rate_limits::Class;

pub(super) fn rows(table: Table) -> Table {
    third_party_ids(confirmations(accounts(table)))
}

fn accounts(table: Table) -> Table {
    use crate::{account as accounts, devices, login, logout, refresh, register};
    table
        .open_for::<account::register::v3::Request, _, _>(
            at("post_matrixclientv3register").interactive(),
            register::register,
        )
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
        .asked_for::<device::update_device::v3::Request, _, _>(at("put_matrixclientv3devicesdeviceid"), devices::put)
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

fn third_party_ids(table: Table) -> Table {
    use crate::account::third_party_ids as ids;
    table
        .asked_for::<account::get_3pids::v3::Request, _, _>(at("get_matrixclientv3account3pid"), ids::list)
        .asked::<ids::OlderRequest, _>(at("post_matrixclientv3account3pid"), ids::post)
        .asked::<account::add_3pid::v3::Request, _>(at("post_matrixclientv3account3pidadd").interactive(), ids::add)
        .asked::<account::delete_3pid::v3::Request, _>(at("post_matrixclientv3account3piddelete"), ids::delete)
        .asked::<account::bind_3pid::v3::Request, _>(at("post_matrixclientv3account3pidbind"), ids::bind)
        .asked::<account::unbind_3pid::v3::Request, _>(at("post_matrixclientv3account3pidunbind"), ids::unbind)
}
