//! Asking a policy server to sign an event.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#asking-for-a-policy-server-signature-on-an-event>

use std::collections::BTreeMap;

use http::Method;
use rules::{Pdu, room::policy::POLICY_KEY_ID};
use ruma::{OwnedServerName, ServerName};

use super::{CallError, Federation, exchange::event_body, path::Target};
use crate::CallLimits;

/// Signatures, by server and key.
type Signatures = BTreeMap<OwnedServerName, BTreeMap<String, String>>;

impl Federation {
    /// The signature of a policy server on an event, not verified yet.
    pub async fn policy_signature(&self, destination: &ServerName, pdu: &Pdu) -> Result<String, CallError> {
        let target = Target::new("/_matrix/policy/v1/sign");
        let body = event_body(&pdu.json)?;
        let mut given: Signatures =
            self.call(destination, Method::POST, target, Some(body), CallLimits::POLICY_SIGNATURE).await?;
        let signature = given.remove(destination).and_then(|mut by_key| by_key.remove(POLICY_KEY_ID));
        signature.ok_or_else(|| CallError::Malformed("the signature is not in the answer".to_owned()))
    }
}
