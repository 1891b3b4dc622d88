//! The key with which this server signs events and requests.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys>

use ed25519_dalek::{Signer, SigningKey};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    signatures::{JsonError, KeyPair, Signature, sign_json},
};

/// An Ed25519 key, the name it is published under, and the server it speaks for.
pub struct ServerKey {
    server_name: OwnedServerName,
    key_id: OwnedServerSigningKeyId,
    signing_key: SigningKey,
}

/// Why some bytes are not a usable key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The name of the key is not of the form that the spec allows: `[a-zA-Z0-9_]+`.
    #[error("the key's name {0:?} may hold only letters, digits and underscores")]
    Name(String),
    /// All bytes of the seed are the same, so it did not come from a random source.
    #[error("all bytes of the key are the same: it was not made at random")]
    Predictable,
}

impl ServerKey {
    /// The key that `seed` stands for, published as `ed25519:{name}`.
    pub fn from_seed(server_name: OwnedServerName, name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let well_formed = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !well_formed {
            return Err(KeyError::Name(name.to_owned()));
        }
        if seed.iter().all(|byte| *byte == seed[0]) {
            return Err(KeyError::Predictable);
        }
        let key_id = format!("ed25519:{name}").try_into().map_err(|_| KeyError::Name(name.to_owned()))?;
        Ok(Self { server_name, key_id, signing_key: SigningKey::from_bytes(seed) })
    }

    /// The server that this key speaks for.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The id that the key is published under, such as `ed25519:a_AbCd`.
    pub fn key_id(&self) -> &OwnedServerSigningKeyId {
        &self.key_id
    }

    /// The public half.
    pub fn public_key(&self) -> [u8; 32] {
        self.signing_key.verifying_key().to_bytes()
    }

    /// Adds this server's signature to a JSON object that is not an event.
    pub fn sign_json(&self, object: &mut CanonicalJsonObject) -> Result<(), JsonError> {
        sign_json(self.server_name.as_str(), self, object)
    }
}

impl KeyPair for ServerKey {
    fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.signing_key.sign(message).to_bytes().to_vec();
        let key_id = self.key_id.as_str().try_into().expect("a server signing key id is a signing key id");
        Signature::new(key_id, signature)
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServerKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_server_name;

    use super::*;

    #[test]
    fn s_010_a_predictable_seed_is_refused() {
        let server = owned_server_name!("example.org");
        assert_eq!(ServerKey::from_seed(server.clone(), "a", &[7; 32]).unwrap_err(), KeyError::Predictable);
        let mut seed = [7; 32];
        seed[31] = 8;
        assert!(ServerKey::from_seed(server, "a", &seed).is_ok());
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let seed: [u8; 32] = std::array::from_fn(|index| index as u8);
        let key = ServerKey::from_seed(owned_server_name!("example.org"), "a", &seed).unwrap();
        assert_eq!(format!("{key:?}"), r#"ServerKey { key_id: "ed25519:a", .. }"#);
    }
}
