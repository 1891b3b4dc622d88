//! What an identity server has signed of somebody who was invited by another address than a user id: by a key that is
//! somebody's, not everybody's.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#authorization-rules>, rule 5.4.1

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    events::{StateEventType, room::member::MembershipState},
    state_res::events::RoomThirdPartyInviteEvent,
};
use serde::Deserialize;

use super::NotAllowed;
use crate::{Pdu, event::weak::proves_object};

#[derive(Deserialize)]
struct Content {
    third_party_invite: Option<Invite>,
}

#[derive(Deserialize)]
struct Invite {
    signed: CanonicalJsonObject,
}

/// Checks an invitation that passes all else: one of its signatures is by one of the keys that the room has for its token,
/// and proves that. All other events pass.
pub(super) fn check_signature(
    pdu: &Pdu,
    state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>,
) -> Result<(), NotAllowed> {
    if !matches!(pdu.membership(), Some((_, MembershipState::Invite))) {
        return Ok(());
    }
    let Some(Invite { signed }) = pdu.content_as::<Content>().and_then(|content| content.third_party_invite) else {
        return Ok(());
    };
    let token = signed.get("token").and_then(CanonicalJsonValue::as_str).unwrap_or_default();
    let asked = state(&StateEventType::RoomThirdPartyInvite, token);
    let keys = asked.and_then(|asked| RoomThirdPartyInviteEvent::new(asked).public_keys().ok()).unwrap_or_default();
    let keys: Vec<Vec<u8>> = keys.iter().filter_map(|key| key.decode().ok()).collect();
    let signatures = signed.get("signatures").and_then(CanonicalJsonValue::as_object);
    let mut signatures = signatures
        .into_iter()
        .flat_map(CanonicalJsonObject::values)
        .filter_map(CanonicalJsonValue::as_object)
        .flatten()
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(_, signature)| signature.as_str());
    if signatures.any(|signature| keys.iter().any(|key| proves_object(key, signature, &signed))) {
        return Ok(());
    }
    Err(NotAllowed("no signature on third-party invite proves anything".to_owned()))
}
