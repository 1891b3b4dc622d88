//! What a server says about its keys: read, and checked against itself.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server>

use std::collections::BTreeMap;

use rules::event::weak::{has_weak_signature, is_weak_key};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    serde::{Base64, base64::Standard},
    signatures::{PublicKeyMap, PublicKeySet, VerificationError, verify_json},
};
use serde::Deserialize;

use super::known::KEYS_MAX;

/// However long a key says it is valid, it is believed for a week: by then a stolen one is out of use.
const VALIDITY_MAX_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// A statement is remembered, for those who ask us as a notary. Real ones have some hundred bytes.
const STATEMENT_MAX_BYTES: usize = 64 * 1024;

/// The checked statement of a server about its keys.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) server: OwnedServerName,
    pub(super) verify_keys: BTreeMap<OwnedServerSigningKeyId, [u8; 32]>,
    /// With the time since when each is out of use.
    pub(super) old_verify_keys: BTreeMap<OwnedServerSigningKeyId, ([u8; 32], u64)>,
    /// At most a week from now.
    pub(super) valid_until_ms: u64,
    /// As it came.
    pub(super) object: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct Fields {
    server_name: OwnedServerName,
    valid_until_ts: u64,
    verify_keys: BTreeMap<String, VerifyKey>,
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    old_verify_keys: BTreeMap<String, OldVerifyKey>,
}

#[derive(Deserialize)]
struct VerifyKey {
    key: String,
}

#[derive(Deserialize)]
struct OldVerifyKey {
    key: String,
    expired_ts: u64,
}

impl Statement {
    /// Reads a statement, about whichever server it is, and checks that it is signed with one of the keys it states.
    pub(super) fn read(object: CanonicalJsonObject, now_ms: u64) -> Result<Self, String> {
        let text = serde_json::to_string(&object).map_err(|error| error.to_string())?;
        if text.len() > STATEMENT_MAX_BYTES {
            return Err("too long".to_owned());
        }
        let fields: Fields = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if fields.verify_keys.len() + fields.old_verify_keys.len() > KEYS_MAX {
            return Err("too many keys".to_owned());
        }
        let verify_keys =
            fields.verify_keys.into_iter().filter_map(|(key_id, VerifyKey { key })| read_key(&key_id, &key));
        let old_verify_keys =
            fields.old_verify_keys.into_iter().filter_map(|(key_id, OldVerifyKey { key, expired_ts })| {
                read_key(&key_id, &key).map(|(key_id, public_key)| (key_id, (public_key, expired_ts)))
            });
        let statement = Self {
            server: fields.server_name,
            verify_keys: verify_keys.collect(),
            old_verify_keys: old_verify_keys.collect(),
            valid_until_ms: fields.valid_until_ts.min(now_ms.saturating_add(VALIDITY_MAX_MS)),
            object,
        };
        let keys = statement.verify_keys.iter().map(|(id, key)| (id.to_string(), Base64::new(key.to_vec())));
        verify_entity(&statement.server, keys.collect(), &statement.object).map_err(|error| error.to_string())?;
        Ok(statement)
    }
}

/// Keys of other algorithms, and what is no key or one that proves nothing, are left out.
fn read_key(key_id: &str, key: &str) -> Option<(OwnedServerSigningKeyId, [u8; 32])> {
    let key_id = key_id.starts_with("ed25519:").then(|| key_id.try_into().ok()).flatten()?;
    let key: [u8; 32] = Base64::<Standard>::parse(key).ok()?.into_inner().try_into().ok()?;
    (!is_weak_key(&key)).then_some((key_id, key))
}

/// Checks the signatures of one server on an object, whoever else has signed it. At least one must be by one of the
/// keys.
pub(super) fn verify_entity(
    server: &ServerName,
    keys: PublicKeySet,
    object: &CanonicalJsonObject,
) -> Result<(), VerificationError> {
    if has_weak_signature(object, server.as_str()) {
        return Err(VerificationError::NoSupportedSignatureForEntity(server.to_string()));
    }
    let signatures = match object.get("signatures") {
        Some(CanonicalJsonValue::Object(signatures)) => signatures.get(server.as_str()),
        _ => None,
    };
    let signatures = signatures.ok_or_else(|| VerificationError::NoSignaturesForEntity(server.to_string()))?;
    let only = CanonicalJsonObject::from([(server.to_string(), signatures.clone())]);
    let mut object = object.clone();
    object.insert("signatures".to_owned(), only.into());
    verify_json(&PublicKeyMap::from([(server.to_string(), keys)]), &object)
}
