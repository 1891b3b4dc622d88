//! What belongs to a user: profile, presence, account data, filters, tags.

use ruma::api::client::{config, filter, presence, profile, tag};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// The chapter of what the specification does not have, but extends.
const CLIENT_CONFIG: &str = "client-config";

pub(super) fn rows(table: Table) -> Table {
    tags(data(profiles(table)))
}

fn profiles(table: Table) -> Table {
    use crate::{presence as presences, profile as profiles};
    table
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
}

fn data(table: Table) -> Table {
    use crate::user;
    table
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
