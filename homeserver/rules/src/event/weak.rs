//! Keys and signatures of Ed25519 that prove nothing.
//!
//! Some points of the curve have few multiples. With such a key, anybody can make signatures that a lax check accepts; in
//! a signature, whoever has the key can use one to make something that some implementations accept and others do not,
//! and rooms part over that. libsodium, and with it most servers, refuses both, and so do we. That the rest of a signature
//! has its one form is seen to by the check of the signature itself.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};

/// How many bytes a point has: a public key, and the first half of a signature.
const POINT_BYTES: usize = 32;

/// All encodings of 0, 1 and -1 in the field that Ed25519 and Curve25519 share, whose prime is 2^255 - 19: as a coordinate,
/// each is that of points whose multiples are few.
pub const ZERO_AND_UNITS: [[u8; POINT_BYTES]; 5] = [
    [0; POINT_BYTES],
    with_ends(1, 0, 0),
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

/// The other points whose multiples are few, without the bit that says which of two points is meant.
const LOW_ORDER_POINTS: [[u8; POINT_BYTES]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; POINT_BYTES] {
    let mut point = [middle; POINT_BYTES];
    point[0] = first;
    point[POINT_BYTES - 1] = last;
    point
}

/// Whether a signature proves that who has the secret half of a key signed a text. The way to check one: neither key nor
/// signature is weak.
pub fn proves(public_key: &[u8], signature: &[u8], text: &[u8]) -> bool {
    let is_weak = is_weak_key(public_key) || is_weak_signature(signature);
    !is_weak && verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, public_key, signature, text).is_ok()
}

/// The same for an object, and a signature in base64.
pub fn proves_object(public_key: &[u8], signature: &str, object: &CanonicalJsonObject) -> bool {
    let Ok(signature) = Base64::<Standard>::parse(signature) else { return false };
    to_canonical_json_string_for_signing(object)
        .is_ok_and(|text| proves(public_key, signature.as_bytes(), text.as_bytes()))
}

/// Whether a public key is one with which anybody can sign.
pub fn is_weak_key(public_key: &[u8]) -> bool {
    let Ok(mut point) = <[u8; POINT_BYTES]>::try_from(public_key) else { return false };
    point[POINT_BYTES - 1] &= 0x7f;
    ZERO_AND_UNITS.contains(&point) || LOW_ORDER_POINTS.contains(&point)
}

/// Whether a signature is one that not everybody accepts, whatever it signs.
pub fn is_weak_signature(signature: &[u8]) -> bool {
    signature.get(..POINT_BYTES).is_some_and(is_weak_key)
}

/// Whether a server, or another entity, has put a signature on an object that not everybody accepts.
pub fn has_weak_signature(object: &CanonicalJsonObject, entity: &str) -> bool {
    let Some(CanonicalJsonValue::Object(signatures)) = object.get("signatures") else { return false };
    let Some(CanonicalJsonValue::Object(of_entity)) = signatures.get(entity) else { return false };
    of_entity.values().filter_map(CanonicalJsonValue::as_str).any(|signature| {
        Base64::<Standard>::parse(signature).is_ok_and(|signature| is_weak_signature(signature.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

    use super::*;

    #[test]
    fn s_013_points_of_low_order_are_known_by_their_bytes() {
        for mut point in ZERO_AND_UNITS.into_iter().chain(LOW_ORDER_POINTS) {
            assert!(VerifyingKey::from_bytes(&point).unwrap().is_weak(), "{point:?}");
            assert!(is_weak_key(&point) && is_weak_signature(&[point, [7; 32]].concat()));
            point[31] |= 0x80;
            assert!(is_weak_key(&point));
            point[16] ^= 1;
            assert!(!is_weak_key(&point) && !is_weak_signature(&[point, [7; 32]].concat()));
        }
        for short in [0, 1, 31] {
            assert!(!is_weak_key(&vec![0; short]) && !is_weak_signature(&vec![0; short]));
        }
        assert!(!is_weak_key(&[0; 33]) && is_weak_signature(&[0; 64]));
    }

    #[test]
    fn s_013_who_has_no_secret_proves_nothing() {
        let everybodys = ZERO_AND_UNITS[1];
        // What is a signature of whatever text to those who look at the equation only.
        let forged = [everybodys, [0; POINT_BYTES]].concat();
        let lax = |signature: &[u8]| {
            verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, &everybodys, signature, b"text").is_ok()
        };
        assert!(lax(&forged) && !proves(&everybodys, &forged, b"text"));
        let own = SigningKey::from_bytes(&[7; 32]);
        let signature = own.sign(b"text").to_bytes();
        assert!(proves(own.verifying_key().as_bytes(), &signature, b"text"));
        assert!(!proves(own.verifying_key().as_bytes(), &signature, b"another"));
        // The base point by 1: whoever signs for everybody's key need not use a weak signature.
        let base = [&[0x58][..], &[0x66; 31], &[1], &[0; 31]].concat();
        assert!(lax(&base) && !is_weak_signature(&base) && !proves(&everybodys, &base, b"text"));
    }
}
