//! `GET /_matrix/client/versions`

use ruma::api::client::discovery::get_supported_versions;

use crate::{Door, Result, arguments::Open};

/// Versions whose changes to the endpoints that we serve are served. The paths changed from `r0` to `v3` in v1.1, and
/// both are in the table, hence the first two. Whole modules that are missing answer `M_UNRECOGNIZED`, as in any version.
/// The push rules for mentions that v1.17 dropped are kept beside the newer ones, see `rules/src/push/defaults.rs`.
/// Of v1.18 and v1.19, what is said of OAuth 2.0 is for servers that log users in by it, and the capability to forget rooms
/// upon leaving is for those that do.
const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// Proposals, and what is our own, that clients ask for by name before they use them.
const FEATURES: [&str; 17] = [
    "chat.nudge.ai",
    "org.matrix.msc3266",
    "org.matrix.msc3391",
    "org.matrix.msc3440.stable",
    "org.matrix.msc3814",
    "org.matrix.msc3874",
    "org.matrix.msc3916.stable",
    "org.matrix.msc4140",
    "org.matrix.msc4155",
    "org.matrix.msc4222",
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    "org.matrix.msc4354",
    "org.matrix.simplified_msc3575",
    "uk.half-shot.msc2666.query_mutual_rooms",
    "uk.half-shot.msc2666.query_mutual_rooms.stable",
    "uk.tcpip.msc4133.stable",
];
/// The presence state `busy`.
const BUSY_PRESENCE: &str = "org.matrix.msc3026.busy_presence";

pub(crate) async fn versions(
    door: Door,
    _: Open<get_supported_versions::Request>,
) -> Result<get_supported_versions::Response> {
    let mut response = get_supported_versions::Response::new(VERSIONS.map(str::to_owned).to_vec());
    response.unstable_features = FEATURES.map(|feature| (feature.to_owned(), true)).into();
    response.unstable_features.insert(BUSY_PRESENCE.to_owned(), door.engine.settings().presence);
    Ok(response)
}
