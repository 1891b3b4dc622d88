//! How rooms and users are found: aliases, directories, summaries, spaces.

use ruma::api::client::{alias, appservice, directory, membership, room, space, user_directory};

use super::table::{Table, at};
use crate::rate_limits::Class;

/// Where clients ask that were made when summaries were a proposal (MSC3266), and called it by another name.
const SUMMARY_BEFORE_IT_WAS_STABLE: &[&str] = &["/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}"];

pub(super) fn rows(table: Table) -> Table {
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
        .asked_for::<directories::list::UnlistOfNetwork, _, _>(
            at("put_matrixclientv3directorylistappservicenetworkidroomid"),
            directories::list::delete_of_network,
        )
        .either_for::<directory::get_public_rooms::v3::Request, _, _>(
            at("get_matrixclientv3publicrooms").rated(Class::Costly),
            public_rooms::get,
        )
        .asked_for::<directory::get_public_rooms_filtered::v3::Request, _, _>(
            at("post_matrixclientv3publicrooms").rated(Class::Costly),
            public_rooms::post,
        )
        .either::<room::get_summary::v1::Request, _>(
            at("get_matrixclientv1room_summaryroomidoralias")
                .rated(Class::Costly)
                .also_at(SUMMARY_BEFORE_IT_WAS_STABLE),
            room_summary::room_summary,
        )
        .asked::<user_directory::search_users::v3::Request, _>(
            at("post_matrixclientv3user_directorysearch").rated(Class::Costly),
            users::search,
        )
        .asked::<membership::get_mutual_rooms::v1::Request, _>(
            at("get_matrixclientv1mutual_rooms").rated(Class::Costly),
            mutual_rooms::mutual_rooms,
        )
        .asked::<membership::get_mutual_rooms::unstable::Request, _>(
            at("get_matrixclientv1mutual_rooms").rated(Class::Costly),
            mutual_rooms::proposed,
        )
        .asked::<space::get_hierarchy::v1::Request, _>(
            at("get_matrixclientv1roomsroomidhierarchy").rated(Class::Costly),
            rooms::hierarchy::hierarchy,
        )
}
