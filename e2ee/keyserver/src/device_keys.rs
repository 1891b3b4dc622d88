//! The identity keys of a device, and its one-time keys: are they what they must be?
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#device-keys>,
//! <https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys>

use ruma::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId};
use serde_json::value::RawValue;
use storage::NewOneTimeKey;

use crate::{
    KeyError, Result,
    verify::{check_curve25519, is_signature, map, object, public_key, raw, retain_signatures, signature, text},
};

/// The largest keys of a device, in bytes. Real ones have less than 1,000.
const DEVICE_KEYS_BYTES_MAX: usize = 32 * 1024;
/// The largest one-time key, in bytes. Real ones have some 200.
const ONE_TIME_KEY_BYTES_MAX: usize = 8 * 1024;
/// The only algorithm of one-time keys that there is.
const SIGNED_CURVE25519: &str = "signed_curve25519";
/// The longest id of a one-time key, in bytes.
const KEY_ID_BYTES_MAX: usize = 255;

/// Keys of a device that are well-formed, and signed by the device where they are signed at all.
pub(crate) struct DeviceKeys {
    /// To be stored.
    pub(crate) json: Box<RawValue>,
    /// The device's signing key, in base64.
    pub(crate) ed25519: String,
    /// The device's identity key, in base64.
    pub(crate) curve25519: Option<String>,
    /// Whether the device has signed them.
    pub(crate) is_signed: bool,
}

impl DeviceKeys {
    /// Reads the keys that a user's device is said to have.
    ///
    /// A signature that does not fit is refused. One that is missing is for those to judge who want to use the keys:
    /// they have to check it anyway, and the server takes nobody's word for it.
    pub(crate) fn read(json: &RawValue, user_id: &UserId, device_id: &DeviceId) -> Result<Self> {
        let mut object = object(json, DEVICE_KEYS_BYTES_MAX)?;
        if text(&object, "user_id")? != user_id || text(&object, "device_id")? != device_id {
            return Err(KeyError::InvalidParam("The keys are of another user or device".to_owned()));
        }
        check_algorithms(&object)?;
        map(&object, "signatures")?;
        let key_id = format!("ed25519:{device_id}");
        let (ed25519, curve25519) = check_keys(&object, device_id)?;
        let own_signature = signature(&object, user_id, &key_id);
        let is_signed = own_signature.is_some();
        if own_signature.is_some_and(|signature| !is_signature(&object, &ed25519, signature)) {
            return Err(KeyError::InvalidSignature("The signature does not fit the keys".to_owned()));
        }
        retain_signatures(&mut object, user_id, |_, _| true);
        Ok(Self { json: raw(&object)?, ed25519, curve25519, is_signed })
    }
}

fn check_algorithms(object: &CanonicalJsonObject) -> Result<()> {
    match object.get("algorithms") {
        Some(CanonicalJsonValue::Array(names)) if names.iter().all(|name| name.as_str().is_some()) => Ok(()),
        _ => Err(KeyError::bad_json("`algorithms` must be a list of strings")),
    }
}

/// The signing key and the identity key.
fn check_keys(object: &CanonicalJsonObject, device_id: &DeviceId) -> Result<(String, Option<String>)> {
    let (mut ed25519, mut curve25519) = (None, None);
    for (name, key) in map(object, "keys")? {
        let (algorithm, of_device) = name.split_once(':').unwrap_or((name, ""));
        let key = key.as_str().ok_or_else(|| KeyError::bad_json("A key must be a string"))?;
        if of_device != device_id {
            return Err(KeyError::InvalidParam(format!("The key {name} is of another device")));
        }
        match algorithm {
            "ed25519" if public_key(key).is_some() => ed25519 = Some(key.to_owned()),
            "ed25519" => return Err(KeyError::bad_json("An Ed25519 key must be 32 bytes of base64")),
            "curve25519" => {
                check_curve25519(key)?;
                curve25519 = Some(key.to_owned());
            }
            _ => {}
        }
    }
    let ed25519 = ed25519.ok_or_else(|| KeyError::bad_json("There is no Ed25519 key"))?;
    Ok((ed25519, curve25519))
}

/// A one-time or fallback key under its name. `ed25519` is the signing key of the device, if it has told us.
pub(crate) fn one_time_key(
    name: &str,
    json: &RawValue,
    user_id: &UserId,
    device_id: &DeviceId,
    ed25519: Option<&str>,
) -> Result<NewOneTimeKey> {
    let (algorithm, key_id) = name.split_once(':').unwrap_or((name, ""));
    if algorithm != SIGNED_CURVE25519 {
        return Err(KeyError::InvalidParam(format!("There are no one-time keys of the algorithm {algorithm:?}")));
    }
    if !(1..=KEY_ID_BYTES_MAX).contains(&key_id.len()) || key_id.contains('\0') {
        return Err(KeyError::InvalidParam("A one-time key has no usable id".to_owned()));
    }
    let mut object = object(json, ONE_TIME_KEY_BYTES_MAX)?;
    check_curve25519(text(&object, "key")?)?;
    let signature = signature(&object, user_id, &format!("ed25519:{device_id}"));
    let signature = signature.ok_or_else(|| unsigned(name))?;
    if ed25519.is_some_and(|ed25519| !is_signature(&object, ed25519, signature)) {
        return Err(unsigned(name));
    }
    object.remove("unsigned");
    Ok(NewOneTimeKey { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), key: raw(&object)? })
}

fn unsigned(name: &str) -> KeyError {
    KeyError::InvalidSignature(format!("The one-time key {name} is not signed by the device"))
}

/// The signing key of a device out of its stored keys.
pub(crate) fn ed25519_of(keys: &RawValue, device_id: &str) -> Option<String> {
    key_of(keys, &format!("ed25519:{device_id}"))
}

/// The identity key of a device out of its stored keys.
pub(crate) fn curve25519_of(keys: &RawValue, device_id: &str) -> Option<String> {
    key_of(keys, &format!("curve25519:{device_id}"))
}

fn key_of(keys: &RawValue, name: &str) -> Option<String> {
    let object: CanonicalJsonObject = serde_json::from_str(keys.get()).ok()?;
    Some(object.get("keys")?.as_object()?.get(name)?.as_str()?.to_owned())
}
