//! What this door answers to: one row per endpoint.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, any, on},
};
use http::Method;

use crate::{
    Door, backfill, error::DoorError, event, event_auth, hierarchy, invite, join, keys, knock, leave, media,
    missing_events, openid, public_rooms, query, send, state, third_party, timestamp, user, version, well_known,
};

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Servers, by a signature on the request.
    Signed,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its method.
    pub method: Method,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// The anchor of its section in <https://spec.matrix.org/v1.19/server-server-api/>.
    pub spec: &'static str,
}

/// Every endpoint of this door.
pub fn route_table() -> Vec<Endpoint> {
    rows().into_iter().map(|(endpoint, _)| endpoint).collect()
}

/// The paths that are this door's, whether there is something or not.
const OWN_PATHS: [&str; 6] = [
    "/_matrix/federation",
    "/_matrix/federation/",
    "/_matrix/federation/{*rest}",
    "/_matrix/key",
    "/_matrix/key/",
    "/_matrix/key/{*rest}",
];

pub(crate) fn router() -> Router<Door> {
    let rows = rows().into_iter();
    let router = rows.fold(Router::new(), |router, (endpoint, handler)| router.route(endpoint.path, handler));
    // Methods first: what is not listed at all has no right method either.
    let router = router.method_not_allowed_fallback(async || DoorError::WrongMethod);
    OWN_PATHS.into_iter().fold(router, |router, path| router.route(path, any(async || DoorError::Unrecognized)))
}

type Row = (Endpoint, MethodRouter<Door>);

fn rows() -> Vec<Row> {
    use Access::{Open, Signed};
    [
        discovery_rows(Open),
        transaction_rows(Signed),
        event_rows(Signed),
        membership_rows(Signed),
        query_rows(Signed),
        user_rows(Signed),
        media_rows(Signed),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn discovery_rows(access: Access) -> Vec<Row> {
    let keys = "get_matrixkeyv2server";
    vec![
        // Asked by identity servers, which are no homeservers and have no keys to sign requests with.
        put("/_matrix/federation/v1/3pid/onbind", access, "put_matrixfederationv13pidonbind", third_party::bound),
        get("/.well-known/matrix/server", access, "getwell-knownmatrixserver", well_known::get),
        get("/_matrix/federation/v1/openid/userinfo", access, "get_matrixfederationv1openiduserinfo", openid::userinfo),
        get("/_matrix/federation/v1/version", access, "get_matrixfederationv1version", version::get),
        get("/_matrix/key/v2/server", access, keys, keys::own),
        // How servers asked before they asked for all keys at once.
        get("/_matrix/key/v2/server/{key_id}", access, keys, keys::own),
        get("/_matrix/key/v2/query/{server_name}", access, "get_matrixkeyv2queryservername", keys::of_server),
        post("/_matrix/key/v2/query", access, "post_matrixkeyv2query", keys::of_servers),
    ]
}

fn transaction_rows(access: Access) -> Vec<Row> {
    vec![put(
        "/_matrix/federation/v1/send/{transaction_id}",
        access,
        "put_matrixfederationv1sendtxnid",
        send::put_transaction,
    )]
}

fn event_rows(access: Access) -> Vec<Row> {
    vec![
        get(
            "/_matrix/federation/v1/event_auth/{room_id}/{event_id}",
            access,
            "get_matrixfederationv1event_authroomideventid",
            event_auth::get,
        ),
        get("/_matrix/federation/v1/backfill/{room_id}", access, "get_matrixfederationv1backfillroomid", backfill::get),
        post(
            "/_matrix/federation/v1/get_missing_events/{room_id}",
            access,
            "post_matrixfederationv1get_missing_eventsroomid",
            missing_events::post,
        ),
        get(
            "/_matrix/federation/v1/timestamp_to_event/{room_id}",
            access,
            "get_matrixfederationv1timestamp_to_eventroomid",
            timestamp::get,
        ),
        get("/_matrix/federation/v1/event/{event_id}", access, "get_matrixfederationv1eventeventid", event::get),
        get("/_matrix/federation/v1/state/{room_id}", access, "get_matrixfederationv1stateroomid", state::get),
        get(
            "/_matrix/federation/v1/state_ids/{room_id}",
            access,
            "get_matrixfederationv1state_idsroomid",
            state::get_ids,
        ),
    ]
}

fn membership_rows(access: Access) -> Vec<Row> {
    vec![
        get(
            "/_matrix/federation/v1/make_join/{room_id}/{user_id}",
            access,
            "get_matrixfederationv1make_joinroomiduserid",
            join::make,
        ),
        put(
            "/_matrix/federation/v1/send_join/{room_id}/{event_id}",
            access,
            "put_matrixfederationv1send_joinroomideventid",
            join::send_v1,
        ),
        put(
            "/_matrix/federation/v2/send_join/{room_id}/{event_id}",
            access,
            "put_matrixfederationv2send_joinroomideventid",
            join::send_v2,
        ),
        get(
            "/_matrix/federation/v1/make_knock/{room_id}/{user_id}",
            access,
            "get_matrixfederationv1make_knockroomiduserid",
            knock::make,
        ),
        put(
            "/_matrix/federation/v1/send_knock/{room_id}/{event_id}",
            access,
            "put_matrixfederationv1send_knockroomideventid",
            knock::send,
        ),
        get(
            "/_matrix/federation/v1/make_leave/{room_id}/{user_id}",
            access,
            "get_matrixfederationv1make_leaveroomiduserid",
            leave::make,
        ),
        put(
            "/_matrix/federation/v1/send_leave/{room_id}/{event_id}",
            access,
            "put_matrixfederationv1send_leaveroomideventid",
            leave::send_v1,
        ),
        put(
            "/_matrix/federation/v2/send_leave/{room_id}/{event_id}",
            access,
            "put_matrixfederationv2send_leaveroomideventid",
            leave::send_v2,
        ),
        put(
            "/_matrix/federation/v1/exchange_third_party_invite/{room_id}",
            access,
            "put_matrixfederationv1exchange_third_party_inviteroomid",
            third_party::exchange,
        ),
        put(
            "/_matrix/federation/v1/invite/{room_id}/{event_id}",
            access,
            "put_matrixfederationv1inviteroomideventid",
            invite::put_v1,
        ),
        put(
            "/_matrix/federation/v2/invite/{room_id}/{event_id}",
            access,
            "put_matrixfederationv2inviteroomideventid",
            invite::put_v2,
        ),
    ]
}

fn query_rows(access: Access) -> Vec<Row> {
    vec![
        get(
            "/_matrix/federation/v1/hierarchy/{room_id}",
            access,
            "get_matrixfederationv1hierarchyroomid",
            hierarchy::get,
        ),
        get("/_matrix/federation/v1/publicRooms", access, "get_matrixfederationv1publicrooms", public_rooms::get),
        post("/_matrix/federation/v1/publicRooms", access, "post_matrixfederationv1publicrooms", public_rooms::post),
        get("/_matrix/federation/v1/query/directory", access, "get_matrixfederationv1querydirectory", query::directory),
        get("/_matrix/federation/v1/query/profile", access, "get_matrixfederationv1queryprofile", query::profile),
    ]
}

fn user_rows(access: Access) -> Vec<Row> {
    vec![
        get(
            "/_matrix/federation/v1/user/devices/{user_id}",
            access,
            "get_matrixfederationv1userdevicesuserid",
            user::devices,
        ),
        post(
            "/_matrix/federation/v1/user/keys/query",
            access,
            "post_matrixfederationv1userkeysquery",
            user::query_keys,
        ),
        post(
            "/_matrix/federation/v1/user/keys/claim",
            access,
            "post_matrixfederationv1userkeysclaim",
            user::claim_keys,
        ),
    ]
}

fn media_rows(access: Access) -> Vec<Row> {
    vec![
        get(
            "/_matrix/federation/v1/media/download/{media_id}",
            access,
            "get_matrixfederationv1mediadownloadmediaid",
            media::download,
        ),
        get(
            "/_matrix/federation/v1/media/thumbnail/{media_id}",
            access,
            "get_matrixfederationv1mediathumbnailmediaid",
            media::thumbnail,
        ),
    ]
}

fn get<H: Handler<T, Door>, T: 'static>(path: &'static str, access: Access, spec: &'static str, handler: H) -> Row {
    (Endpoint { method: Method::GET, path, access, spec }, on(MethodFilter::GET, handler))
}

fn put<H: Handler<T, Door>, T: 'static>(path: &'static str, access: Access, spec: &'static str, handler: H) -> Row {
    (Endpoint { method: Method::PUT, path, access, spec }, on(MethodFilter::PUT, handler))
}

fn post<H: Handler<T, Door>, T: 'static>(path: &'static str, access: Access, spec: &'static str, handler: H) -> Row {
    (Endpoint { method: Method::POST, path, access, spec }, on(MethodFilter::POST, handler))
}
