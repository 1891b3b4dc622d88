//! Answering as a notary: what other servers have told us about their keys, signed by us as well.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server>

use futures_util::{StreamExt, stream};
use ruma::{CanonicalJsonObject, OwnedServerName};
use storage::StorageError;

use super::{KeyQueries, KeyQuery, KeyRing, Need};

/// Servers answered for in one request. The rest is left out, as those are whose keys cannot be had.
const SERVERS_MAX: usize = 100;
/// Servers that one request may have us ask at the same time.
const FETCHES_MAX: usize = 8;
/// Keys of one server that are looked at.
const KEYS_MAX: usize = 20;

impl KeyRing {
    /// Our answer to `POST /_matrix/key/v2/query` and its relatives: the `server_keys`, signed by us as well.
    pub async fn notary_response(&self, queries: KeyQueries) -> Result<Vec<CanonicalJsonObject>, StorageError> {
        let answers: Vec<_> = stream::iter(queries.into_iter().take(SERVERS_MAX))
            .map(|(server, query)| self.notarise(server, query))
            .buffered(FETCHES_MAX)
            .collect()
            .await;
        answers.into_iter().filter_map(Result::transpose).collect()
    }

    async fn notarise(
        &self,
        server: OwnedServerName,
        query: KeyQuery,
    ) -> Result<Option<CanonicalJsonObject>, StorageError> {
        if *server == *self.inner.key.server_name() {
            return self.server_keys_response().await.map(Some);
        }
        let valid_until_ms = query.valid_until_ms.unwrap_or_else(|| self.inner.world.clock.now_ms());
        let need = Need::Statement { key_ids: query.key_ids.into_iter().take(KEYS_MAX).collect(), valid_until_ms };
        let known = self.known(&server, &need).await?;
        Ok(known.statement().and_then(|statement| {
            let mut statement = statement.clone();
            self.inner.key.sign_json(&mut statement).ok().map(|()| statement)
        }))
    }
}
