//! What guests, suspended users and locked users may ask for.
//!
//! Endpoints are named by their sections in the specification, so that one which is added later is closed to guests,
//! and to suspended users who want to change something, until it is listed here.

use axum::http::Method;
use engine::{Authenticated, EngineError};

use crate::Result;

/// Open to guests: <https://spec.matrix.org/v1.19/client-server-api/#guest-access>.
const GUESTS: &[&str] = &[
    "delete_matrixclientv3profileuseridkeyname",
    "get_matrixclientv1mediadownloadservernamemediaid",
    "get_matrixclientv1mediadownloadservernamemediaidfilename",
    "get_matrixclientv1mediathumbnailservernamemediaid",
    "get_matrixclientv3accountwhoami",
    "get_matrixclientv3devices",
    "get_matrixclientv3devicesdeviceid",
    "peeking_get_matrixclientv3events",
    "get_matrixclientv3roomsroomidcontexteventid",
    "get_matrixclientv3roomsroomideventeventid",
    "get_matrixclientv3roomsroomidinitialsync",
    "get_matrixclientv3roomsroomidmembers",
    "get_matrixclientv3roomsroomidmessages",
    "get_matrixclientv3roomsroomidstate",
    "get_matrixclientv3roomsroomidstateeventtypestatekey",
    "get_matrixclientv3sync",
    "post_matrixclientv3keysclaim",
    "post_matrixclientv3keysquery",
    "post_matrixclientv3keysupload",
    "post_matrixclientv3roomsroomidjoin",
    "post_matrixclientv3roomsroomidleave",
    "put_matrixclientv3devicesdeviceid",
    "put_matrixclientv3profileuseridkeyname",
    "put_matrixclientv3roomsroomidsendeventtypetxnid",
    "put_matrixclientv3roomsroomidstateeventtypestatekey",
    "put_matrixclientv3sendtodeviceeventtypetxnid",
    // The specification's list lacks these, but nobody could end a guest's session, or set it up, without them.
    "get_matrixclientv3capabilities",
    "get_matrixclientv3pushrules",
    "get_matrixclientv3pushrulesglobal",
    "get_matrixclientv3useruseridfilterfilterid",
    "post_matrixclientv3useruseridfilter",
    "post_matrixclientv3logout",
    "post_matrixclientv3logoutall",
];

/// What suspended users may do beside reading: <https://spec.matrix.org/v1.19/client-server-api/#account-suspension>.
/// What is redacted must be their own.
const SUSPENDED: &[&str] = &[
    // Sessions, devices and the account itself.
    "post_matrixclientv3logout",
    "post_matrixclientv3logoutall",
    "put_matrixclientv3devicesdeviceid",
    "delete_matrixclientv3devicesdeviceid",
    "post_matrixclientv3delete_devices",
    "post_matrixclientv1loginget_token",
    "post_matrixclientv3accountpassword",
    "post_matrixclientv3accountdeactivate",
    "post_matrixclientv3account3pidadd",
    // Encryption: verifying devices, cross-signing, backups.
    "post_matrixclientv3keysupload",
    "post_matrixclientv3keysquery",
    "post_matrixclientv3keysclaim",
    "post_matrixclientv3keysdevice_signingupload",
    "post_matrixclientv3keyssignaturesupload",
    "put_matrixclientv3sendtodeviceeventtypetxnid",
    "post_matrixclientv3room_keysversion",
    "put_matrixclientv3room_keysversionversion",
    "delete_matrixclientv3room_keysversionversion",
    "put_matrixclientv3room_keyskeys",
    "put_matrixclientv3room_keyskeysroomid",
    "put_matrixclientv3room_keyskeysroomidsessionid",
    "delete_matrixclientv3room_keyskeys",
    "delete_matrixclientv3room_keyskeysroomid",
    "delete_matrixclientv3room_keyskeysroomidsessionid",
    // Reading, and what only they themselves see.
    "post_matrixclientv3useruseridfilter",
    "post_matrixclientv3search",
    "post_matrixclientv3publicrooms",
    "post_matrixclientv3user_directorysearch",
    "post_matrixclientv3roomsroomidread_markers",
    "post_matrixclientv3roomsroomidreceiptreceipttypeeventid",
    "put_matrixclientv3useruseridaccount_datatype",
    "put_matrixclientv3useruseridroomsroomidaccount_datatype",
    "put_matrixclientv3useruseridroomsroomidtagstag",
    "delete_matrixclientv3useruseridroomsroomidtagstag",
    "post_matrixclientv3pushersset",
    "put_matrixclientv3pushrulesglobalkindruleid",
    "put_matrixclientv3pushrulesglobalkindruleidactions",
    "put_matrixclientv3pushrulesglobalkindruleidenabled",
    "delete_matrixclientv3pushrulesglobalkindruleid",
    // Leaving, and taking back.
    "post_matrixclientv3roomsroomidleave",
    "post_matrixclientv3roomsroomidforget",
    "put_matrixclientv3roomsroomidredacteventidtxnid",
];

/// All that is left to locked users: <https://spec.matrix.org/v1.19/client-server-api/#account-locking>.
const LOCKED: &[&str] = &["post_matrixclientv3logout", "post_matrixclientv3logoutall"];

/// Whether the asker may ask for this at all.
pub(crate) fn check(asker: &Authenticated, method: &Method, section: &str) -> Result<()> {
    if asker.locked && !LOCKED.contains(&section) {
        return Err(EngineError::UserLocked.into());
    }
    // Sliding sync asks by POST, at a path that is in no specification yet.
    let reads = *method == Method::GET || section.ends_with("sync");
    if asker.suspended && !reads && !SUSPENDED.contains(&section) {
        return Err(EngineError::UserSuspended.into());
    }
    if asker.guest && !GUESTS.contains(&section) {
        return Err(EngineError::GuestForbidden("Guests may not do this".to_owned()).into());
    }
    Ok(())
}
