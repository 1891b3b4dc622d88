//! Events as JSON that tests take apart and put together again, wrongly.

use rules::{Pdu, event::ServerKey};
use ruma::{
    CanonicalJsonObject,
    room_version_rules::RoomVersionRules,
    signatures::{hash_and_sign_event, sign_event},
};
use serde_json::value::RawValue;

/// The event as an object.
pub fn object_of(pdu: &Pdu) -> CanonicalJsonObject {
    serde_json::from_str(&pdu.json).expect("an event is an object")
}

/// An object as canonical JSON.
pub fn text_of(object: &CanonicalJsonObject) -> String {
    serde_json::to_string(object).expect("canonical JSON can be written")
}

/// Text as JSON that is passed on as it stands.
pub fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("the text is JSON")
}

/// Hashes and signs an object anew, whatever it says: there is no check of form or sender.
pub(crate) fn seal(mut object: CanonicalJsonObject, rules: &RoomVersionRules, key: &ServerKey) -> CanonicalJsonObject {
    object.remove("hashes");
    object.remove("signatures");
    hash_and_sign_event(key.server_name().as_str(), key, &mut object, &rules.redaction)
        .expect("the object can be hashed and signed");
    object
}

/// Adds a signature to an object and leaves its hashes alone.
pub(crate) fn countersign(object: &mut CanonicalJsonObject, rules: &RoomVersionRules, key: &ServerKey) {
    sign_event(key.server_name().as_str(), key, object, &rules.redaction).expect("the object can be signed");
}
