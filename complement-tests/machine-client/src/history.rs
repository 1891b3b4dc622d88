//! What was said before: given to who is invited, and taken from who has invited us.

use machine::{AttachmentKey, decrypt_attachment, encrypt_attachment};
use ruma::{RoomId, UserId};
use serde_json::{Value, json};

use crate::api::{Failure, escaped};
use crate::client::{Client, Object};
use crate::system::world;

/// Uploads the keys of a room for a user, and tells the user's devices where they are. Nothing is done where nothing was
/// said.
pub(crate) async fn share(client: &mut Client, room_id: &RoomId, user_id: &UserId) -> Result<(), Failure> {
    let mut file = client.machine.room_key_bundle(room_id);
    let bundle: Value = serde_json::from_slice(&file)?;
    if bundle["room_keys"].as_array().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let held = client.machine.follow(user_id);
    client.keep(held)?;
    client.send_requests().await?;
    let mut content = serde_json::to_value(encrypt_attachment(&world(), &mut file))?;
    content["url"] = json!(client.api.upload(file).await?);
    let content = content.as_object().cloned().unwrap_or_default();
    let held = client.machine.share_room_key_bundle(room_id, user_id, &content);
    if client.keep(held)? == 0 {
        return Err("no device of the user is signed".into());
    }
    client.send_requests().await
}

/// Takes what the one who has invited us to a room has sent.
pub(crate) async fn take(client: &mut Client, room_id: &RoomId) -> Result<(), Failure> {
    let Some(inviter) = client.invitations.get(room_id).cloned() else { return Ok(()) };
    let is_fit = |sender: &UserId, content: &Object| *sender == *inviter && content["room_id"] == room_id.as_str();
    while let Some(index) = client.bundles.iter().position(|(sender, content)| is_fit(sender, content)) {
        let (sender, content) = client.bundles.remove(index);
        let key: AttachmentKey = serde_json::from_value(content["file"].clone())?;
        let url = content["file"]["url"].as_str().and_then(|url| url.strip_prefix("mxc://")).ok_or("no url")?;
        let (server, media) = url.split_once('/').ok_or("no media id")?;
        let mut file = client.api.download(&format!("{}/{}", escaped(server), escaped(media))).await?;
        decrypt_attachment(&key, &mut file)?;
        let held = client.machine.import_room_key_bundle(room_id, &sender, &file).ok_or("it is no bundle")?;
        client.keep(held)?;
    }
    Ok(())
}
