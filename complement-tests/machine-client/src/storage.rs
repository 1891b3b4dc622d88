//! The key backup, and the secret storage in the account data: making both, and a new device that takes in both.

use std::collections::BTreeMap;

use machine::{DEFAULT_KEY, STORED_SECRETS, SecretStorageKey, default_key_id};
use reqwest::{Method, StatusCode};
use ruma::api::client::backup::get_backup_keys;
use serde_json::Value;

use crate::api::{Failure, escaped};
use crate::client::{Client, Object};
use crate::system::world;
use crate::wire::part;

/// Makes a backup and a secret storage that holds its key. Gives the storage's key, as a user writes it down.
pub(crate) async fn back_up(client: &mut Client) -> Result<String, Failure> {
    let held = client.machine.create_backup();
    client.keep(held)?;
    client.send_requests().await?;
    let key = SecretStorageKey::new(&world());
    let stored = stored_secrets(client).await?;
    for (kind, content) in client.machine.store_secrets(&key, &stored)? {
        client.api.put(&account_data_path(client, &kind), Value::Object(content)).await?;
    }
    Ok(key.recovery_key())
}

/// Opens the secret storage, and takes in the backup by what is in it.
pub(crate) async fn restore(client: &mut Client, written: &str) -> Result<(), Failure> {
    let default = account_data(client, DEFAULT_KEY).await?.ok_or("there is no secret storage")?;
    let id = default_key_id(&default).ok_or("no key is the default")?;
    let kind = format!("m.secret_storage.key.{id}");
    let description = account_data(client, &kind).await?.ok_or("the key is not described")?;
    let key = SecretStorageKey::open_by_recovery_key(id, &description, written)?;
    let stored = stored_secrets(client).await?;

    let backup = client.api.get("room_keys/version").await?;
    let text = |field: &str| backup[field].as_str().ok_or_else(|| format!("a backup has its {field}"));
    let (version, algorithm) = (text("version")?, text("algorithm")?);
    let auth_data = backup["auth_data"].as_object().ok_or("a backup has its auth_data")?;
    let held = client.machine.use_backup(version, algorithm, auth_data);
    client.keep(held)?;
    let held = client.machine.open_secrets(&key, &stored);
    let taken = client.keep(held)?;
    if taken.len() != STORED_SECRETS.len() {
        return Err(format!("only {taken:?} could be taken").into());
    }
    let mut answer = client.api.get(&format!("room_keys/keys?version={}", escaped(version))).await?;
    let held = client.machine.restore_backup(&get_backup_keys::v3::Response::new(part(&mut answer, "rooms")?));
    client.keep(held)?;
    client.send_requests().await
}

async fn stored_secrets(client: &Client) -> Result<BTreeMap<String, Object>, Failure> {
    let mut stored = BTreeMap::new();
    for name in STORED_SECRETS {
        if let Some(content) = account_data(client, name).await? {
            stored.insert(name.to_owned(), content);
        }
    }
    Ok(stored)
}

async fn account_data(client: &Client, kind: &str) -> Result<Option<Object>, Failure> {
    let (status, answer) = client.api.ask(Method::GET, &account_data_path(client, kind), None).await?;
    match status {
        StatusCode::OK => Ok(answer.as_object().cloned()),
        StatusCode::NOT_FOUND => Ok(None),
        _ => Err(format!("{kind}: {status} {answer}").into()),
    }
}

fn account_data_path(client: &Client, kind: &str) -> String {
    format!("user/{}/account_data/{}", escaped(client.machine.user_id().as_str()), escaped(kind))
}
