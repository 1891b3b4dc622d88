//! Handing a transaction to a server.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#transactions>

use std::collections::BTreeMap;

use http::Method;
use ruma::{CanonicalJsonObject, ServerName};
use serde::Deserialize;
use serde_json::Value;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

/// What the server says about the events. It has the transaction, whatever it says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct TransactionAnswer {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pdus: BTreeMap<String, Value>,
}

impl TransactionAnswer {
    /// The events that it did not like, with its reasons.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pdus.iter().filter_map(|(event_id, result)| Some((event_id.as_str(), result.get("error")?.as_str()?)))
    }
}

impl Federation {
    pub(crate) async fn send_transaction(
        &self,
        destination: &ServerName,
        transaction_id: &str,
        content: CanonicalJsonObject,
    ) -> Result<TransactionAnswer, CallError> {
        let target = Target::new("/_matrix/federation/v1/send").segment(transaction_id);
        match self.call(destination, Method::PUT, target, Some(content), CallLimits::TRANSACTION).await {
            // It has been taken; some servers answer nothing that makes sense.
            Err(CallError::Malformed(_) | CallError::TooLarge) => Ok(TransactionAnswer::default()),
            answer => answer,
        }
    }
}
