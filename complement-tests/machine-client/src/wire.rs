//! The machine's requests as calls, and their answers.

use machine::{Answer, RequestBody};
use reqwest::Method;
use ruma::api::client::backup::create_backup_version;
use ruma::api::client::keys::{claim_keys, get_keys, upload_keys, upload_signatures};
use serde_json::{Value, json};

use crate::api::{Api, Failure, escaped};

/// Sends a request. Room events are the client's business: it has to encrypt them first.
pub(crate) async fn send(api: &Api, password: &str, body: &RequestBody) -> Result<Answer, Failure> {
    match body {
        RequestBody::KeysUpload(request) => {
            let mut body = json!({ "one_time_keys": request.one_time_keys, "fallback_keys": request.fallback_keys });
            if let Some(keys) = &request.device_keys {
                body["device_keys"] = serde_json::to_value(keys)?;
            }
            let mut answer = api.post("keys/upload", body).await?;
            Ok(Answer::KeysUpload(upload_keys::v3::Response::new(part(&mut answer, "one_time_key_counts")?)))
        }
        RequestBody::KeysQuery(request) => {
            let mut answer = api.post("keys/query", json!({ "device_keys": request.device_keys })).await?;
            let mut response = get_keys::v3::Response::new();
            response.failures = part(&mut answer, "failures")?;
            response.device_keys = part(&mut answer, "device_keys")?;
            response.master_keys = part(&mut answer, "master_keys")?;
            response.self_signing_keys = part(&mut answer, "self_signing_keys")?;
            response.user_signing_keys = part(&mut answer, "user_signing_keys")?;
            Ok(Answer::KeysQuery(response))
        }
        RequestBody::KeysClaim(request) => {
            let mut answer = api.post("keys/claim", json!({ "one_time_keys": request.one_time_keys })).await?;
            Ok(Answer::KeysClaim(claim_keys::v3::Response::new(part(&mut answer, "one_time_keys")?)))
        }
        RequestBody::ToDevice(request) => {
            let path = format!("sendToDevice/{}/{}", request.event_type, request.txn_id);
            api.put(&path, json!({ "messages": request.messages })).await?;
            Ok(Answer::Done)
        }
        RequestBody::SignaturesUpload(request) => {
            let mut answer = api.post("keys/signatures/upload", serde_json::to_value(&request.signed_keys)?).await?;
            let mut response = upload_signatures::v3::Response::new();
            response.failures = part(&mut answer, "failures")?;
            Ok(Answer::SignaturesUpload(response))
        }
        RequestBody::SigningKeysUpload(request) => {
            let body = json!({
                "master_key": request.master_key,
                "self_signing_key": request.self_signing_key,
                "user_signing_key": request.user_signing_key,
            });
            upload_signing_keys(api, password, body).await?;
            Ok(Answer::Done)
        }
        RequestBody::BackupCreate(request) => {
            let answer = api.post("room_keys/version", serde_json::to_value(&request.algorithm)?).await?;
            let version = answer["version"].as_str().ok_or("a backup has a version")?;
            Ok(Answer::BackupCreate(create_backup_version::v3::Response::new(version.to_owned())))
        }
        RequestBody::BackupKeys(request) => {
            let path = format!("room_keys/keys?version={}", escaped(&request.version));
            api.put(&path, json!({ "rooms": request.rooms })).await?;
            Ok(Answer::Done)
        }
        RequestBody::RoomEvent(_) => Err("room events are sent by the client".into()),
    }
}

/// The first upload needs no authentication; one that replaces keys wants the password.
async fn upload_signing_keys(api: &Api, password: &str, mut body: Value) -> Result<(), Failure> {
    let path = "keys/device_signing/upload";
    let (status, answer) = api.ask(Method::POST, path, Some(&body)).await?;
    if status.is_success() {
        return Ok(());
    }
    let who = api.get("account/whoami").await?;
    let identifier = json!({ "type": "m.id.user", "user": who["user_id"] });
    let session = &answer["session"];
    body["auth"] =
        json!({ "type": "m.login.password", "identifier": identifier, "password": password, "session": session });
    api.post(path, body).await?;
    Ok(())
}

/// A field of an answer; one that is not there is empty.
pub(crate) fn part<T: serde::de::DeserializeOwned + Default>(answer: &mut Value, field: &str) -> Result<T, Failure> {
    match answer.get_mut(field) {
        Some(value) => Ok(serde_json::from_value(value.take())?),
        None => Ok(T::default()),
    }
}
