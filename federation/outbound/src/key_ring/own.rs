//! Our own keys: the one in use, and those we had before, which storage remembers.

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UInt,
    serde::{Base64, base64::Standard},
};
use storage::{ServerKeyRecord, StorageError};

use super::{KeyRing, Known};

/// How long others may use our key without asking again. A day, as most servers say: if it is stolen, it is out of use
/// a day after we have changed it.
const VALIDITY_MS: u64 = 24 * 3_600 * 1_000;

impl KeyRing {
    /// Our answer to `GET /_matrix/key/v2/server`, signed.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub async fn server_keys_response(&self) -> Result<CanonicalJsonObject, StorageError> {
        let key = &self.inner.key;
        let known = self.own_known().await?;
        let verify_key = object([("key", base64(&key.public_key()))]);
        let old_verify_keys = known.expired().map(|(key_id, public_key, expired_ms)| {
            (key_id.to_string(), object([("key", base64(public_key)), ("expired_ts", integer(expired_ms))]).into())
        });
        let mut response = object([
            ("server_name", CanonicalJsonValue::String(key.server_name().to_string())),
            ("valid_until_ts", integer(self.inner.world.clock.now_ms().saturating_add(VALIDITY_MS))),
            ("verify_keys", CanonicalJsonObject::from([(key.key_id().to_string(), verify_key.into())]).into()),
            ("old_verify_keys", old_verify_keys.collect::<CanonicalJsonObject>().into()),
        ]);
        key.sign_json(&mut response).expect("it has no `signatures` of another type");
        Ok(response)
    }

    /// Notes the key in use, and that others are not any more. To be called at the start: a key that nobody has asked for
    /// while it was in use must be known as an old one when it no longer is.
    pub async fn note_own_key(&self) -> Result<(), StorageError> {
        self.own_known().await.map(drop)
    }

    /// Our own keys. The first call notes the one in use, and that others are not any more.
    pub(super) async fn own_known(&self) -> Result<Arc<Known>, StorageError> {
        self.inner.own.get_or_try_init(|| self.load_own()).await.map(Arc::clone)
    }

    async fn load_own(&self) -> Result<Arc<Known>, StorageError> {
        let key = &self.inner.key;
        let now_ms = self.inner.world.clock.now_ms();
        let mut old = self.inner.storage.server_keys(key.server_name()).await?;
        if old.iter().any(|record| record.key_id == *key.key_id() && record.public_key != key.public_key()) {
            tracing::error!(
                key_id = %key.key_id(),
                "another key of this server had the same name before; others will refuse it: give it a new name"
            );
        }
        old.retain(|record| record.key_id != *key.key_id());
        for record in &mut old {
            record.expired_ts.get_or_insert(now_ms);
        }
        let current = ServerKeyRecord {
            server: key.server_name().to_owned(),
            key_id: key.key_id().clone(),
            public_key: key.public_key().to_vec(),
            valid_until_ts: now_ms.saturating_add(VALIDITY_MS),
            expired_ts: None,
        };
        let records: Vec<_> = old.iter().cloned().chain([current]).collect();
        self.inner.storage.store_server_keys(&records).await?;
        Ok(Arc::new(Known::own((key.key_id().clone(), key.public_key()), old)))
    }
}

fn object<const N: usize>(fields: [(&str, CanonicalJsonValue); N]) -> CanonicalJsonObject {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn integer(value: u64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(UInt::new_saturating(value).into())
}

fn base64(bytes: &[u8; 32]) -> CanonicalJsonValue {
    CanonicalJsonValue::String(Base64::<Standard, _>::new(bytes).encode())
}
