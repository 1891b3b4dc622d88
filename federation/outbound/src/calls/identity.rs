//! Calls to identity servers, which know whose an e-mail address or phone number is: on behalf of a user of ours, with
//! the token that the user has there, but for what they tell everybody.
//!
//! Spec: <https://spec.matrix.org/v1.19/identity-service-api/>

use bytes::Bytes;
use http::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use ruma::{ServerName, ServerSigningKeyId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{CallError, Federation};
use crate::CallLimits;

/// How addresses are to be hidden from whoever may look over the identity server's shoulder.
#[derive(Clone, Debug, Deserialize)]
pub struct HashDetails {
    /// What is to be hashed with them.
    pub lookup_pepper: String,
    /// By what, such as `sha256`.
    pub algorithms: Vec<String>,
}

/// What an identity server makes of an invitation for an address that belongs to nobody yet. Nothing of it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredInvite {
    /// The name of the invitation.
    pub token: String,
    /// The address, so far as others may see it.
    pub display_name: String,
    /// The keys of which one will sign for whoever turns out to own the address.
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    pub public_keys: Vec<InviteKey>,
}

/// A key of an identity server.
#[derive(Clone, Debug, Deserialize)]
pub struct InviteKey {
    /// The key, in base64.
    pub public_key: String,
    /// Where to ask whether it is still good.
    pub key_validity_url: String,
}

#[derive(Deserialize)]
struct PublicKey {
    public_key: String,
}

#[derive(Deserialize)]
struct Mappings {
    #[serde(default, deserialize_with = "ruma::serde::none_as_default")]
    mappings: serde_json::Map<String, Value>,
}

impl Federation {
    /// How addresses are to be given to an identity server.
    pub async fn identity_hash_details(&self, server: &ServerName, token: &str) -> Result<HashDetails, CallError> {
        self.ask_identity_server(server, Method::GET, "hash_details", Some(token), None).await
    }

    /// Whose an address is, if an identity server knows: what it says is a user id. The address is hashed already.
    pub async fn identity_lookup(
        &self,
        server: &ServerName,
        token: &str,
        (algorithm, pepper): (&str, &str),
        address: &str,
    ) -> Result<Option<String>, CallError> {
        let body = json!({ "addresses": [address], "algorithm": algorithm, "pepper": pepper });
        let found: Mappings =
            self.ask_identity_server(server, Method::POST, "lookup", Some(token), Some(&body)).await?;
        Ok(found.mappings.get(address).and_then(Value::as_str).map(ToOwned::to_owned))
    }

    /// Leaves an invitation with an identity server, which tells whoever has the address.
    pub async fn identity_store_invite(
        &self,
        server: &ServerName,
        token: &str,
        invite: &Value,
    ) -> Result<StoredInvite, CallError> {
        self.ask_identity_server(server, Method::POST, "store-invite", Some(token), Some(invite)).await
    }

    /// A key with which an identity server signs, in base64.
    pub async fn identity_public_key(
        &self,
        server: &ServerName,
        key_id: &ServerSigningKeyId,
    ) -> Result<String, CallError> {
        let path = format!("pubkey/{key_id}");
        let found: PublicKey = self.ask_identity_server(server, Method::GET, &path, None, None).await?;
        Ok(found.public_key)
    }

    async fn ask_identity_server<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<T, CallError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://{server}/_matrix/identity/v2/{path}"))
            .header(ACCEPT, "application/json");
        if let Some(token) = token {
            let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| CallError::Denied("the token for the identity server is none".to_owned()))?;
            authorization.set_sensitive(true);
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(body).map_err(|error| CallError::Denied(error.to_string()))?;
        let answer = self.inner.transport.send_unsigned(request, CallLimits::IDENTITY).await?;
        if !answer.status().is_success() {
            return Err(super::exchange::refusal(&answer));
        }
        super::exchange::parse(answer.body())
    }
}
