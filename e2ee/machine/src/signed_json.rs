//! Signatures over JSON objects: <https://spec.matrix.org/v1.19/appendices/#signing-json>.
//!
//! The objects are those that came over the wire, with every field they had, because a signature covers fields that we
//! know nothing of.

use ruma::{CanonicalJsonValue, UserId};
use serde_json::{Map, Value};
use vodozemac::{Ed25519PublicKey, Ed25519Signature};

/// A JSON object as it came.
pub(crate) type Object = Map<String, Value>;

/// The text that is signed: canonical JSON without `signatures` and `unsigned`. `None` when the object holds what
/// canonical JSON has not, such as fractions.
pub(crate) fn signed_text(object: &Object) -> Option<String> {
    let mut bare = object.clone();
    bare.remove("signatures");
    bare.remove("unsigned");
    canonical(&Value::Object(bare))
}

/// Canonical JSON of a value, or `None` when it has none.
pub(crate) fn canonical(value: &Value) -> Option<String> {
    let canonical = CanonicalJsonValue::try_from(value.clone()).ok()?;
    serde_json::to_string(&canonical).ok()
}

/// Adds a signature of `user` by the key named `key_id` (`ed25519:...`). `false` when the object cannot be signed.
pub(crate) fn sign(
    object: &mut Object,
    user: &UserId,
    key_id: &str,
    signer: impl FnOnce(&[u8]) -> Ed25519Signature,
) -> bool {
    let Some(text) = signed_text(object) else { return false };
    let signature = signer(text.as_bytes()).to_base64();
    let signatures = object.entry("signatures").or_insert_with(|| Value::Object(Map::new()));
    let Some(signatures) = signatures.as_object_mut() else { return false };
    let of_user = signatures.entry(user.as_str()).or_insert_with(|| Value::Object(Map::new()));
    let Some(of_user) = of_user.as_object_mut() else { return false };
    of_user.insert(key_id.to_owned(), Value::String(signature));
    true
}

/// Whether the object holds a valid signature of `user` by `key`, under the name `key_id`. The check is a strict one: a key
/// that is everybody's has signed nothing, as [`rules::event::weak`] says of those that servers check.
pub(crate) fn is_signed(object: &Object, user: &UserId, key_id: &str, key: &Ed25519PublicKey) -> bool {
    let signature = object.get("signatures").and_then(|all| all.get(user.as_str())).and_then(|own| own.get(key_id));
    let Some(signature) = signature.and_then(Value::as_str) else { return false };
    let Ok(signature) = Ed25519Signature::from_base64(signature) else { return false };
    signed_text(object).is_some_and(|text| key.verify(text.as_bytes(), &signature).is_ok())
}

/// A text field of an object, or nothing.
pub(crate) fn text<'a>(object: &'a Object, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

/// A text field two levels down, or nothing.
pub(crate) fn text_in<'a>(object: &'a Object, outer: &str, field: &str) -> Option<&'a str> {
    object.get(outer).and_then(|inner| inner.get(field)).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;
    use vodozemac::Ed25519SecretKey;

    use super::*;

    #[test]
    fn s_013_a_key_that_is_everybodys_has_signed_nothing() {
        let user = user_id!("@alice:test");
        let mut object = json!({"keys": {}}).as_object().cloned().unwrap();
        let own = Ed25519SecretKey::new();
        assert!(sign(&mut object, user, "ed25519:A", |text| own.sign(text)));
        assert!(is_signed(&object, user, "ed25519:A", &own.public_key()));

        let neutral: [u8; 32] = std::array::from_fn(|index| u8::from(index == 0));
        let base_point: [u8; 32] = std::array::from_fn(|index| if index == 0 { 0x58 } else { 0x66 });
        let everybodys = Ed25519PublicKey::from_slice(&neutral).unwrap();
        for halves in [[neutral, [0; 32]], [base_point, neutral]] {
            let forged = Ed25519Signature::from_slice(&halves.concat()).unwrap();
            assert!(sign(&mut object, user, "ed25519:A", |_| forged));
            assert!(!is_signed(&object, user, "ed25519:A", &everybodys));
        }
    }
}
