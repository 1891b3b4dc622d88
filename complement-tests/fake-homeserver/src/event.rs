//! Events as JSON that tests take apart and put together again, wrongly.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rules::{Pdu, event::ServerKey};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, canonical_json::redact_in_place, room_version_rules::RoomVersionRules,
    signatures::sign_event,
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

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

/// Hashes and signs an object anew, whatever it says: there is no check of form, size or sender.
pub(crate) fn seal(mut object: CanonicalJsonObject, rules: &RoomVersionRules, key: &ServerKey) -> CanonicalJsonObject {
    let unsigned = object.remove("unsigned");
    object.remove("hashes");
    object.remove("signatures");
    let hash = STANDARD_NO_PAD.encode(Sha256::digest(text_of(&object)));
    let hashes = CanonicalJsonObject::from([("sha256".to_owned(), CanonicalJsonValue::String(hash))]);
    object.insert("hashes".to_owned(), CanonicalJsonValue::Object(hashes));
    let mut redacted = object.clone();
    // What is too malformed to be redacted is signed as it is: nobody will accept it for its signature.
    let _ = redact_in_place(&mut redacted, &rules.redaction, None);
    key.sign_json(&mut redacted).expect("an object can be signed");
    object.extend(redacted.remove_entry("signatures"));
    object.extend(unsigned.map(|unsigned| ("unsigned".to_owned(), unsigned)));
    object
}

/// Adds a signature to an object and leaves its hashes alone.
pub(crate) fn countersign(object: &mut CanonicalJsonObject, rules: &RoomVersionRules, key: &ServerKey) {
    sign_event(key.server_name().as_str(), key, object, &rules.redaction).expect("the object can be signed");
}
