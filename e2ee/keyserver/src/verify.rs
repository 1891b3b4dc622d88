//! Reading signed objects, and checking signatures on them.
//!
//! Spec: <https://spec.matrix.org/v1.19/appendices/#signing-json>

use rules::event::weak::{ZERO_AND_UNITS, proves_object};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    serde::{Base64, base64::Standard},
    signatures,
};
use serde_json::value::RawValue;

use crate::{KeyError, Result};

/// How many bytes a public key has.
const KEY_BYTES: usize = 32;

/// The points of Curve25519 whose multiples are few, besides [`ZERO_AND_UNITS`]: a session with them is no secret.
const LOW_ORDER_POINTS: [[u8; KEY_BYTES]; 2] = [
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// JSON that may be signed: no fractions, no numbers beyond 53 bits.
pub(crate) fn object(json: &RawValue, bytes_max: usize) -> Result<CanonicalJsonObject> {
    if json.get().len() > bytes_max {
        return Err(KeyError::TooLarge(format!("Keys must not be larger than {bytes_max} bytes")));
    }
    if !json.get().starts_with('{') {
        return Err(KeyError::bad_json("Keys must be a JSON object"));
    }
    serde_json::from_str(json.get())
        .map_err(|error| KeyError::bad_json(format!("Keys are not canonical JSON: {error}")))
}

/// A field that must be text.
pub(crate) fn text<'a>(object: &'a CanonicalJsonObject, field: &str) -> Result<&'a str> {
    match object.get(field) {
        Some(CanonicalJsonValue::String(text)) => Ok(text),
        _ => Err(KeyError::bad_json(format!("`{field}` must be a string"))),
    }
}

/// A field that must be an object.
pub(crate) fn map<'a>(object: &'a CanonicalJsonObject, field: &str) -> Result<&'a CanonicalJsonObject> {
    match object.get(field) {
        Some(CanonicalJsonValue::Object(map)) => Ok(map),
        _ => Err(KeyError::bad_json(format!("`{field}` must be an object"))),
    }
}

/// The object as stored JSON.
pub(crate) fn raw(object: &CanonicalJsonObject) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(object).map_err(|error| KeyError::bad_json(error.to_string()))
}

/// What is signed of an object.
pub(crate) fn signed_part(object: &CanonicalJsonObject) -> Result<String> {
    signatures::to_canonical_json_string_for_signing(object).map_err(|error| KeyError::bad_json(error.to_string()))
}

/// A public key out of its base64.
pub(crate) fn public_key(base64: &str) -> Option<[u8; KEY_BYTES]> {
    Base64::<Standard>::parse(base64).ok()?.as_bytes().try_into().ok()
}

/// Refuses what is no public key to encrypt to.
pub(crate) fn check_curve25519(base64: &str) -> Result<()> {
    let mut key =
        public_key(base64).ok_or_else(|| KeyError::bad_json("A Curve25519 key must be 32 bytes of base64"))?;
    // The top bit is ignored by whoever uses the key.
    key[KEY_BYTES - 1] &= 0x7f;
    if ZERO_AND_UNITS.contains(&key) || LOW_ORDER_POINTS.contains(&key) {
        return Err(KeyError::bad_json("The Curve25519 key is of low order"));
    }
    Ok(())
}

/// The signature of a user's key on an object.
pub(crate) fn signature<'a>(object: &'a CanonicalJsonObject, signer: &UserId, key_id: &str) -> Option<&'a str> {
    let signatures = object.get("signatures")?.as_object()?;
    signatures.get(signer.as_str())?.as_object()?.get(key_id)?.as_str()
}

/// Whether a signature on an object was made with this Ed25519 key.
pub(crate) fn is_signature(object: &CanonicalJsonObject, public_key_base64: &str, signature: &str) -> bool {
    public_key(public_key_base64).is_some_and(|key| proves_object(&key, signature, object))
}

/// Whether a user's key has signed an object.
pub(crate) fn is_signed_by(
    object: &CanonicalJsonObject,
    signer: &UserId,
    key_id: &str,
    public_key_base64: &str,
) -> bool {
    signature(object, signer, key_id).is_some_and(|signature| is_signature(object, public_key_base64, signature))
}

/// Keeps only the signatures that `keep` wants, of one user.
pub(crate) fn retain_signatures(object: &mut CanonicalJsonObject, signer: &UserId, keep: impl Fn(&str, &str) -> bool) {
    object.remove("unsigned");
    let Some(CanonicalJsonValue::Object(mut signatures)) = object.remove("signatures") else { return };
    let Some(CanonicalJsonValue::Object(mut own)) = signatures.remove(signer.as_str()) else {
        object.insert("signatures".to_owned(), CanonicalJsonValue::Object(CanonicalJsonObject::new()));
        return;
    };
    own.retain(|key_id, signature| signature.as_str().is_some_and(|signature| keep(key_id, signature)));
    let signatures = if own.is_empty() {
        CanonicalJsonObject::new()
    } else {
        CanonicalJsonObject::from([(signer.to_string(), CanonicalJsonValue::Object(own))])
    };
    object.insert("signatures".to_owned(), CanonicalJsonValue::Object(signatures));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_080_keys_that_keep_no_secret_are_refused() {
        for point in ZERO_AND_UNITS.into_iter().chain(LOW_ORDER_POINTS) {
            let key = Base64::<Standard, _>::new(point.to_vec()).encode();
            assert!(matches!(check_curve25519(&key), Err(KeyError::BadJson(_))), "{key}");
        }
        for key in ["", "AAAA", "not base64!", &"A".repeat(86)] {
            assert!(matches!(check_curve25519(key), Err(KeyError::BadJson(_))), "{key}");
        }
        assert!(check_curve25519(&Base64::<Standard, _>::new(vec![9; KEY_BYTES]).encode()).is_ok());
    }
}
