//! Signing keys of other servers.

use ruma::{OwnedServerName, OwnedServerSigningKeyId, ServerName};

use crate::{
    Result, Storage,
    dialect::{db, is_storable, parsed, storable},
};

/// A signing key of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerKeyRecord {
    /// Whose it is.
    pub server: OwnedServerName,
    /// Its id.
    pub key_id: OwnedServerSigningKeyId,
    /// The public key's bytes.
    pub public_key: Vec<u8>,
    /// Until when the server says it is valid, in milliseconds since the epoch.
    pub valid_until_ts: u64,
    /// For a key that the server does not use any more: since when, in milliseconds since the epoch.
    pub expired_ts: Option<u64>,
}

impl Storage {
    /// All known keys of a server.
    pub async fn server_keys(&self, server: &ServerName) -> Result<Vec<ServerKeyRecord>> {
        const SQL: &str = "SELECT key_id, public_key, valid_until_ts, expired_ts FROM server_keys WHERE server = $1";
        let name = storable(server.as_str(), "a server name")?;
        let rows: Vec<(String, Vec<u8>, i64, Option<i64>)> =
            db!(self.read(), |pool| sqlx::query_as(SQL).bind(name).fetch_all(pool).await)?;
        let record = |(key_id, public_key, valid_until_ts, expired_ts): (String, Vec<u8>, i64, Option<i64>)| {
            Ok(ServerKeyRecord {
                server: server.to_owned(),
                key_id: parsed(&key_id, "server_keys", "key_id")?,
                public_key,
                valid_until_ts: valid_until_ts.unsigned_abs(),
                expired_ts: expired_ts.map(i64::unsigned_abs),
            })
        };
        rows.into_iter().map(record).collect()
    }

    /// Stores keys, or moves the validity of known ones. The bytes of a known key id are never replaced: a record with
    /// other bytes is ignored. So is a key with an id or a server name that cannot be stored.
    pub async fn store_server_keys(&self, keys: &[ServerKeyRecord]) -> Result<()> {
        const SQL: &str = "INSERT INTO server_keys (server, key_id, public_key, valid_until_ts, expired_ts)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (server, key_id) DO UPDATE
            SET valid_until_ts = excluded.valid_until_ts, expired_ts = excluded.expired_ts
            WHERE server_keys.public_key = excluded.public_key";
        let mut transaction = self.begin().await?;
        let storable = |key: &&ServerKeyRecord| is_storable(key.server.as_str()) && is_storable(key.key_id.as_str());
        for key in keys.iter().filter(storable) {
            db!(transaction.connection(), |connection| {
                let query = sqlx::query(SQL).bind(key.server.as_str()).bind(key.key_id.as_str());
                let query = query.bind(&key.public_key).bind(stored_ts(key.valid_until_ts));
                query.bind(key.expired_ts.map(stored_ts)).execute(connection).await.map(drop)
            })?;
        }
        transaction.commit().await
    }
}

/// Other servers may claim any time; what is beyond the last storable one is as good as that.
fn stored_ts(ts: u64) -> i64 {
    i64::try_from(ts).unwrap_or(i64::MAX)
}
