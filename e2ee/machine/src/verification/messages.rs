//! The contents of the messages of a verification, without what ties them to their flow.

use ruma::DeviceId;
use serde_json::{Value, json};

use crate::signed_json::{Object, text};

/// The one method that we have.
pub(super) const SAS: &str = "m.sas.v1";

/// What we offer of each thing that SAS lets one choose: the current one only.
pub(super) const KEY_AGREEMENT: &str = "curve25519-hkdf-sha256";
pub(super) const HASH: &str = "sha256";
pub(super) const MAC: &str = "hkdf-hmac-sha256.v2";

/// A message to send: its type and content.
pub(super) type Message = (&'static str, Object);

pub(super) fn request(device_id: &DeviceId, now_ms: u64) -> Object {
    object(json!({ "from_device": device_id, "methods": [SAS], "timestamp": now_ms }))
}

pub(super) fn ready(device_id: &DeviceId) -> Message {
    ("m.key.verification.ready", object(json!({ "from_device": device_id, "methods": [SAS] })))
}

pub(super) fn start(device_id: &DeviceId) -> Message {
    let content = json!({
        "from_device": device_id,
        "method": SAS,
        "key_agreement_protocols": [KEY_AGREEMENT],
        "hashes": [HASH],
        "message_authentication_codes": [MAC],
        "short_authentication_string": ["decimal", "emoji"],
    });
    ("m.key.verification.start", object(content))
}

pub(super) fn accept(commitment: &str, start: &Object) -> Message {
    let methods: Vec<_> = ["decimal", "emoji"]
        .into_iter()
        .filter(|method| offers(start, "short_authentication_string", method))
        .collect();
    let content = json!({
        "method": SAS,
        "key_agreement_protocol": KEY_AGREEMENT,
        "hash": HASH,
        "message_authentication_code": MAC,
        "short_authentication_string": methods,
        "commitment": commitment,
    });
    ("m.key.verification.accept", object(content))
}

pub(super) fn key(key: &str) -> Message {
    ("m.key.verification.key", object(json!({ "key": key })))
}

pub(super) fn mac(macs: &Value, keys: &str) -> Message {
    ("m.key.verification.mac", object(json!({ "mac": macs, "keys": keys })))
}

pub(super) fn done() -> Message {
    ("m.key.verification.done", Object::new())
}

pub(super) fn cancel(code: &str) -> Message {
    let reason = match code {
        "m.user" => "The user cancelled the verification.",
        "m.timeout" => "The verification took too long.",
        "m.unknown_transaction" => "The verification is not known.",
        "m.unknown_method" => "No method is known to both devices.",
        "m.unexpected_message" => "The message was not expected.",
        "m.key_mismatch" => "The keys are not those that were expected.",
        "m.mismatched_commitment" => "The hash of the key is not the one that was promised.",
        "m.mismatched_sas" => "The short authentication strings differ.",
        "m.accepted" => "Another device accepted.",
        _ => "The message is malformed.",
    };
    ("m.key.verification.cancel", object(json!({ "code": code, "reason": reason })))
}

/// Whether a list of an offer has a value.
pub(super) fn offers(content: &Object, list: &str, value: &str) -> bool {
    content.get(list).and_then(Value::as_array).is_some_and(|values| values.iter().any(|known| known == value))
}

/// Whether a `start` can be accepted.
pub(super) fn is_acceptable(start: &Object) -> bool {
    text(start, "method") == Some(SAS)
        && offers(start, "key_agreement_protocols", KEY_AGREEMENT)
        && offers(start, "hashes", HASH)
        && offers(start, "message_authentication_codes", MAC)
        && (offers(start, "short_authentication_string", "decimal")
            || offers(start, "short_authentication_string", "emoji"))
}

/// Whether an `accept` chose from what we offered.
pub(super) fn has_chosen_ours(accept: &Object) -> bool {
    text(accept, "key_agreement_protocol") == Some(KEY_AGREEMENT)
        && text(accept, "hash") == Some(HASH)
        && text(accept, "message_authentication_code") == Some(MAC)
        && (offers(accept, "short_authentication_string", "decimal")
            || offers(accept, "short_authentication_string", "emoji"))
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}
