//! Filters that clients upload once and then name in sync.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{UserId, api::client::filter::FilterDefinition};

use crate::{Engine, EngineError, Result};

/// The largest filter, in bytes.
const FILTER_BYTES_MAX: usize = 65_536;

/// How many filters a user may have. Clients make a handful and name them again.
const FILTERS_MAX: u64 = 1_000;

impl Engine {
    /// Keeps a filter and gives its id. The same filter gets the same id.
    pub async fn create_filter(&self, user_id: &UserId, json: &str) -> Result<String> {
        check(json)?;
        let filter_id = self.storage().store_filter(user_id, json, FILTERS_MAX).await?;
        filter_id.ok_or_else(|| EngineError::TooLarge(format!("There can be no more than {FILTERS_MAX} filters")))
    }

    /// A filter, as it was uploaded.
    pub async fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<String> {
        let filter = self.storage().filter(user_id, filter_id).await?;
        filter.ok_or_else(|| EngineError::not_found("No such filter"))
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
