//! Filters that clients uploaded.

use ruma::UserId;

use crate::{Result, Storage};

impl Storage {
    /// Stores a filter and returns its id. The same JSON gets the same id.
    pub async fn store_filter(&self, user_id: &UserId, json: &str) -> Result<String> {
        todo!()
    }

    /// A filter.
    pub async fn filter(&self, user_id: &UserId, filter_id: &str) -> Result<Option<String>> {
        todo!()
    }
}
