//! Filters that clients upload once and then name in sync.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{UserId, api::client::filter::FilterDefinition};

use crate::{Engine, EngineError, Result};

/// The largest filter, in bytes.
const FILTER_BYTES_MAX: usize = 65_536;

/// How many filters a user may have. Clients make a handful and name them again; some make one each time they start.
const FILTERS_MAX: u64 = 1_000;

/// How exactly it is known when a filter was used last: noting it costs a write.
const USED_EXACT_MS: u64 = 24 * 60 * 60 * 1_000;

impl Engine {
    /// Keeps a filter and gives its id. The same filter gets the same id. Who has too many loses the one that was not
    /// used for longest.
    pub async fn create_filter(&self, user_id: &UserId, json: &str) -> Result<String> {
        check(json)?;
        let now_ms = self.world().clock.now_ms();
        Ok(self.storage().store_filter(user_id, json, now_ms, FILTERS_MAX).await?)
    }

    /// A filter, as it was uploaded.
    pub async fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<String> {
        let found = self.storage().filter(user_id, filter_id).await?;
        let (filter, used_ms) = found.ok_or_else(|| EngineError::not_found("No such filter"))?;
        let now_ms = self.world().clock.now_ms();
        if now_ms.saturating_sub(used_ms) > USED_EXACT_MS {
            // Who can read must not fail because nothing can be written.
            if let Err(error) = self.storage().note_filter_used(user_id, filter_id, now_ms).await {
                tracing::warn!(user.id = %user_id, %error, "it was not noted that a filter is in use");
            }
        }
        Ok(filter)
    }
}

fn check(json: &str) -> Result<()> {
    if json.len() > FILTER_BYTES_MAX {
        return Err(EngineError::TooLarge(format!("A filter must not be larger than {FILTER_BYTES_MAX} bytes")));
    }
    // serde would take an array for the fields in their order.
    if !json.trim_start().starts_with('{') {
        return Err(EngineError::BadJson("A filter must be a JSON object".to_owned()));
    }
    match serde_json::from_str::<FilterDefinition>(json) {
        Ok(_) => Ok(()),
        Err(error) => Err(EngineError::BadJson(format!("Not a filter: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_are_filters() {
        for json in ["{}", r#"{"room":{"timeline":{"limit":10,"types":["m.room.message"]}}}"#, r#"{"unknown":1}"#] {
            assert!(check(json).is_ok(), "{json}");
        }
        for json in ["", "[]", "null", "{", r#"{"room":[1]}"#, r#"{"room":{"timeline":{"limit":"ten"}}}"#] {
            assert!(matches!(check(json), Err(EngineError::BadJson(_))), "{json}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(FILTER_BYTES_MAX));
        assert!(matches!(check(&large), Err(EngineError::TooLarge(_))));
    }
}
