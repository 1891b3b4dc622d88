//! The policy server of a room: a server that recommends events for the room by its signature.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName,
    canonical_json::redact,
    room_version_rules::RoomVersionRules,
    serde::{Base64, base64::Standard},
};
use serde::Deserialize;

use crate::{
    Pdu,
    event::{
        read_json,
        weak::{is_weak_key, proves_object},
    },
};

/// The type of the state event that names the policy server of a room.
pub const POLICY_EVENT_TYPE: &str = "m.room.policy";

/// The id under which policy servers sign events, whatever their key.
pub const POLICY_KEY_ID: &str = "ed25519:policy_server";

/// The policy server that a room names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServer {
    /// Its name. The room uses it only while it has a joined user.
    pub via: OwnedServerName,
    /// The public key by which its signatures are judged, as base64.
    public_key: Base64,
}

#[derive(Deserialize)]
struct Content {
    via: OwnedServerName,
    public_keys: PublicKeys,
}

#[derive(Deserialize)]
struct PublicKeys {
    ed25519: Base64<Standard>,
}

impl PolicyServer {
    /// From the room's `m.room.policy` event, if that says enough.
    pub fn named_by(policy: &Pdu) -> Option<Self> {
        let Content { via, public_keys } = policy.content_as()?;
        // With such a key anybody could recommend events.
        (!is_weak_key(public_keys.ed25519.as_bytes())).then_some(Self { via, public_key: public_keys.ed25519 })
    }

    /// Whether it is to be asked about an event: about all but the one that names it, so that a room can be freed of one
    /// that is gone.
    pub fn is_asked_about(pdu: &Pdu) -> bool {
        !(pdu.event_type.to_string() == POLICY_EVENT_TYPE && pdu.state_key.as_deref() == Some(""))
    }

    /// Whether an event has its valid signature.
    pub fn recommends(&self, pdu: &Pdu, rules: &RoomVersionRules) -> bool {
        read_json(&pdu.json).is_ok_and(|object| self.has_signed(object, rules))
    }

    /// The event with its signature, if that is valid; the signatures of others remain.
    pub fn add_signature(&self, pdu: &Pdu, signature: &str, rules: &RoomVersionRules) -> Option<Pdu> {
        let mut object = read_json(&pdu.json).ok()?;
        let CanonicalJsonValue::Object(signatures) = object.get_mut("signatures")? else { return None };
        let by_server = signatures
            .entry(self.via.to_string())
            .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        let CanonicalJsonValue::Object(by_server) = by_server else { return None };
        by_server.insert(POLICY_KEY_ID.to_owned(), CanonicalJsonValue::String(signature.to_owned()));
        let signed = crate::event::read_pdu(&serde_json::to_string(&object).ok()?, rules).ok()?.0;
        (signed.event_id == pdu.event_id && self.has_signed(object, rules)).then_some(signed)
    }

    fn has_signed(&self, object: CanonicalJsonObject, rules: &RoomVersionRules) -> bool {
        let Some(signature) = signature_of(&object, &self.via) else { return false };
        redact(object, &rules.redaction, None)
            .is_ok_and(|redacted| proves_object(self.public_key.as_bytes(), &signature, &redacted))
    }
}

fn signature_of(object: &CanonicalJsonObject, server: &ServerName) -> Option<String> {
    let CanonicalJsonValue::Object(signatures) = object.get("signatures")? else { return None };
    let CanonicalJsonValue::Object(by_server) = signatures.get(server.as_str())? else { return None };
    by_server.get(POLICY_KEY_ID)?.as_str().map(ToOwned::to_owned)
}
