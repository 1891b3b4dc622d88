//! Encryption of files: <https://spec.matrix.org/v1.19/client-server-api/#sending-encrypted-attachments>.
//!
//! AES-CTR with a key of its own for each file. What is stored on the server is checked by its hash before it is opened,
//! because AES-CTR notices no change.

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ctr::Ctr64BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use rules::world::World;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What is needed to read a file, as it stands in the event (`file`, without `url`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `v2`
    pub v: String,
    /// The key.
    pub key: JsonWebKey,
    /// The counter block at the beginning, in unpadded base64.
    pub iv: String,
    /// `sha256` of the encrypted file, in unpadded base64.
    pub hashes: BTreeMap<String, String>,
}

/// A key in the form of RFC 7517.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonWebKey {
    /// `oct`
    pub kty: String,
    /// At least `encrypt` and `decrypt`.
    pub key_ops: Vec<String>,
    /// `A256CTR`
    pub alg: String,
    /// The key in URL-safe unpadded base64.
    pub k: String,
    /// Whether it may be read.
    pub ext: bool,
}

impl std::fmt::Debug for JsonWebKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JsonWebKey").field("alg", &self.alg).finish_non_exhaustive()
    }
}

/// Why a file cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// The key is of another version or algorithm, or malformed.
    #[error("the key is malformed, or of an unknown version or algorithm")]
    Key,
    /// The file is not the one that was encrypted.
    #[error("the hash of the file is not the one in the event")]
    Hash,
}

/// Encrypts a file in place, and gives what is needed to read it.
pub fn encrypt_attachment(world: &World, file: &mut [u8]) -> AttachmentKey {
    let mut key = Zeroizing::new([0_u8; 32]);
    world.chance.fill(key.as_mut());
    // The lower half counts blocks and begins at zero, so that it cannot overflow.
    let mut iv = [0_u8; 16];
    world.chance.fill(&mut iv[..8]);
    Ctr64BE::<Aes256>::new((&*key).into(), (&iv).into()).apply_keystream(file);
    let key = JsonWebKey {
        kty: "oct".into(),
        key_ops: vec!["encrypt".into(), "decrypt".into()],
        alg: "A256CTR".into(),
        k: URL_SAFE_NO_PAD.encode(key.as_ref()),
        ext: true,
    };
    let hash = STANDARD_NO_PAD.encode(Sha256::digest(&*file));
    AttachmentKey {
        v: "v2".into(),
        key,
        iv: STANDARD_NO_PAD.encode(iv),
        hashes: BTreeMap::from([("sha256".into(), hash)]),
    }
}

/// Decrypts a file in place, after its hash was found to be right.
pub fn decrypt_attachment(key: &AttachmentKey, file: &mut [u8]) -> Result<(), AttachmentError> {
    let is_known = key.v == "v2" && key.key.kty == "oct" && key.key.alg == "A256CTR" && key.key.ext;
    if !is_known || !key.key.key_ops.iter().any(|operation| operation == "decrypt") {
        return Err(AttachmentError::Key);
    }
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(unpadded(&key.key.k)).map_err(|_| AttachmentError::Key)?);
    let secret: &[u8; 32] = secret.as_slice().try_into().map_err(|_| AttachmentError::Key)?;
    let iv = STANDARD_NO_PAD.decode(unpadded(&key.iv)).map_err(|_| AttachmentError::Key)?;
    let iv: [u8; 16] = iv.try_into().map_err(|_| AttachmentError::Key)?;
    let hash = key.hashes.get("sha256").ok_or(AttachmentError::Key)?;
    let hash = STANDARD_NO_PAD.decode(unpadded(hash)).map_err(|_| AttachmentError::Key)?;
    if hash != Sha256::digest(&*file).as_slice() {
        return Err(AttachmentError::Hash);
    }
    Ctr64BE::<Aes256>::new(secret.into(), (&iv).into()).apply_keystream(file);
    Ok(())
}

/// Some write base64 with padding although the spec says not to.
fn unpadded(text: &str) -> &str {
    text.trim_end_matches('=')
}
