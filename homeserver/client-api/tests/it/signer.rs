//! A device that signs: real keys, as real clients upload them.

use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::server::Session;

/// A signing key under its id.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) public: String,
}

impl Signer {
    /// With the id that cross-signing keys have: their own public part.
    pub(crate) fn new() -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, "unused".to_owned()).unwrap();
        let public = Base64::<Standard, _>::new(pair.public_key().to_vec()).encode();
        Self { pair: Ed25519KeyPair::from_der(&der, public.clone()).unwrap(), public }
    }

    /// With the id of a device.
    pub(crate) fn of_device(device_id: &str) -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, device_id.to_owned()).unwrap();
        let public = Base64::<Standard, _>::new(pair.public_key().to_vec()).encode();
        Self { pair, public }
    }

    /// The object with one signature more.
    pub(crate) fn sign(&self, user_id: &str, object: &Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
        sign_json(user_id, &self.pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    /// A cross-signing key.
    pub(crate) fn cross_signing_key(&self, user_id: &str, usage: &str) -> Value {
        json!({
            "user_id": user_id,
            "usage": [usage],
            "keys": { format!("ed25519:{}", self.public): self.public },
        })
    }
}

/// The keys of a device.
pub(crate) struct DeviceSigner {
    pub(crate) signer: Signer,
    user_id: String,
    device_id: String,
}

impl DeviceSigner {
    pub(crate) fn new(session: &Session) -> Self {
        let (user_id, device_id) = (session.user_id.clone(), session.device_id.clone());
        Self { signer: Signer::of_device(&device_id), user_id, device_id }
    }

    /// The identity keys, signed.
    pub(crate) fn device_keys(&self) -> Value {
        let keys = json!({
            "user_id": self.user_id,
            "device_id": self.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                format!("ed25519:{}", self.device_id): self.signer.public,
                format!("curve25519:{}", self.device_id): curve25519(9),
            },
        });
        self.signer.sign(&self.user_id, &keys)
    }

    /// One-time keys with these ids, signed.
    pub(crate) fn one_time_keys(&self, ids: impl IntoIterator<Item = u8>) -> Value {
        let key = |id| (format!("signed_curve25519:{id:03}"), self.one_time_key(id));
        Value::Object(ids.into_iter().map(key).collect())
    }

    pub(crate) fn one_time_key(&self, seed: u8) -> Value {
        self.signer.sign(&self.user_id, &json!({ "key": curve25519(seed) }))
    }
}

/// Something that passes for a public key.
pub(crate) fn curve25519(seed: u8) -> String {
    Base64::<Standard, _>::new(vec![seed.max(2); 32]).encode()
}
