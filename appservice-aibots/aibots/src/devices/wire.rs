//! The machine's requests as calls, and their answers.

use machine::{Answer, RequestBody};
use reqwest::Method;
use ruma::api::client::backup::create_backup_version;
use ruma::api::client::keys::{claim_keys, get_keys, upload_keys, upload_signatures};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::matrix::{As, CallError, Homeserver, text};

/// Sends a request as a device of a user, by its token.
pub(super) async fn send(
    homeserver: &Homeserver,
    user_id: &str,
    token: &str,
    body: &RequestBody,
) -> Result<Answer, CallError> {
    let post = async |path: &[&str], body: Value| {
        let path = [&["client", "v3"], path].concat();
        homeserver.call(As::Device(token), Method::POST, &path, &[], Some(&body)).await
    };
    let put = async |path: &[&str], query: &[(&str, &str)], body: Value| {
        let path = [&["client", "v3"], path].concat();
        homeserver.call(As::Device(token), Method::PUT, &path, query, Some(&body)).await
    };
    Ok(match body {
        RequestBody::KeysUpload(request) => {
            let mut body = json!({ "one_time_keys": request.one_time_keys, "fallback_keys": request.fallback_keys });
            if let Some(keys) = &request.device_keys {
                body["device_keys"] = json!(keys);
            }
            let mut answer = post(&["keys", "upload"], body).await?;
            Answer::KeysUpload(upload_keys::v3::Response::new(field(&mut answer, "one_time_key_counts")?))
        }
        RequestBody::KeysQuery(request) => {
            let mut answer = post(&["keys", "query"], json!({ "device_keys": request.device_keys })).await?;
            let mut response = get_keys::v3::Response::new();
            response.failures = field(&mut answer, "failures")?;
            response.device_keys = field(&mut answer, "device_keys")?;
            response.master_keys = field(&mut answer, "master_keys")?;
            response.self_signing_keys = field(&mut answer, "self_signing_keys")?;
            response.user_signing_keys = field(&mut answer, "user_signing_keys")?;
            Answer::KeysQuery(response)
        }
        RequestBody::KeysClaim(request) => {
            let mut answer = post(&["keys", "claim"], json!({ "one_time_keys": request.one_time_keys })).await?;
            Answer::KeysClaim(claim_keys::v3::Response::new(field(&mut answer, "one_time_keys")?))
        }
        RequestBody::ToDevice(request) => {
            let kind = request.event_type.to_string();
            let path = ["sendToDevice", kind.as_str(), request.txn_id.as_str()];
            put(&path, &[], json!({ "messages": request.messages })).await?;
            Answer::Done
        }
        RequestBody::SignaturesUpload(request) => {
            let mut answer = post(&["keys", "signatures", "upload"], json!(request.signed_keys)).await?;
            let mut response = upload_signatures::v3::Response::new();
            response.failures = field(&mut answer, "failures")?;
            Answer::SignaturesUpload(response)
        }
        RequestBody::SigningKeysUpload(request) => {
            let body = json!({
                "master_key": request.master_key,
                "self_signing_key": request.self_signing_key,
                "user_signing_key": request.user_signing_key,
            });
            // The service itself need not confirm that an identity that was lost is replaced; a device would have to.
            let path = ["client", "v3", "keys", "device_signing", "upload"];
            homeserver.call(As::User(user_id), Method::POST, &path, &[], Some(&body)).await?;
            Answer::Done
        }
        RequestBody::BackupCreate(request) => {
            let answer = post(&["room_keys", "version"], json!(request.algorithm)).await?;
            Answer::BackupCreate(create_backup_version::v3::Response::new(text(&answer, "version")?))
        }
        RequestBody::BackupKeys(request) => {
            let query = [("version", request.version.as_str())];
            put(&["room_keys", "keys"], &query, json!({ "rooms": request.rooms })).await?;
            Answer::Done
        }
        RequestBody::RoomEvent(_) => return Err(CallError::Strange("a use for events")),
    })
}

/// A field of an answer; one that is not there is empty.
pub(super) fn field<T: DeserializeOwned + Default>(answer: &mut Value, name: &'static str) -> Result<T, CallError> {
    match answer.get_mut(name) {
        Some(value) => serde_json::from_value(value.take()).map_err(|_| CallError::Strange(name)),
        None => Ok(T::default()),
    }
}
