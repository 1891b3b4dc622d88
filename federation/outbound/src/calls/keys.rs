//! The keys of other servers' users. What the answers hold is for the caller to read and to judge.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption>

use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, ServerName, UserId};
use serde::de::DeserializeOwned;

use super::{CallError, Federation, path::Target};
use crate::CallLimits;

impl Federation {
    /// All devices of a user of that server.
    pub async fn user_devices<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        user_id: &UserId,
    ) -> Result<T, CallError> {
        let target = Target::new("/_matrix/federation/v1/user/devices").segment(user_id.as_str());
        self.get(destination, target, CallLimits::DEVICE_KEYS).await
    }

    /// The keys of users of that server; `device_keys` has lists of devices by user.
    pub async fn query_keys<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        device_keys: CanonicalJsonObject,
    ) -> Result<T, CallError> {
        let target = Target::new("/_matrix/federation/v1/user/keys/query");
        let body = [("device_keys".to_owned(), CanonicalJsonValue::Object(device_keys))].into();
        self.call(destination, Method::POST, target, Some(body), CallLimits::DEVICE_KEYS).await
    }

    /// Claims one-time keys of users of that server; `one_time_keys` has algorithms by user and device.
    pub async fn claim_keys<T: DeserializeOwned + Send + 'static>(
        &self,
        destination: &ServerName,
        one_time_keys: CanonicalJsonObject,
    ) -> Result<T, CallError> {
        let target = Target::new("/_matrix/federation/v1/user/keys/claim");
        let body = [("one_time_keys".to_owned(), CanonicalJsonValue::Object(one_time_keys))].into();
        self.call(destination, Method::POST, target, Some(body), CallLimits::DEVICE_KEYS).await
    }
}
