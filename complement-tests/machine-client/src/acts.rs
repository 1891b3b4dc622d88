//! What a session can be told to do, by the words of `encryption.py`.

use std::time::{Duration, Instant};

use machine::{FlowId, Stage};
use reqwest::StatusCode;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};

use crate::api::{Api, Failure, escaped};
use crate::client::Client;
use crate::{history, storage};

const PASSWORD: &str = "correct horse battery staple";
const DEADLINE: Duration = Duration::from_secs(90);

/// Syncs until a condition gives something.
macro_rules! until {
    ($client:expr, $what:expr, $found:expr) => {{
        let start = Instant::now();
        loop {
            if let Some(found) = $found {
                break found;
            }
            if start.elapsed() > DEADLINE {
                return Err(format!("never saw {}", $what).into());
            }
            $client.sync().await?;
        }
    }};
}

pub(crate) async fn act(session: &mut Option<Client>, asked: &Value) -> Result<Value, Failure> {
    match text(asked, "act")? {
        "register" => {
            let name = text(asked, "name")?;
            let api = Api::register(text(&asked["server"], "baseUrl")?, name, PASSWORD).await?;
            begin(session, api, name).await
        }
        "log_in" => {
            let api = Api::new(text(&asked["server"], "baseUrl")?)?;
            begin(session, api, text(asked, "user")?).await
        }
        other => {
            let client = session.as_mut().ok_or("not logged in")?;
            match other {
                "create_room" | "invite" | "join" | "leave" | "sees_member" | "log_out" => {
                    in_rooms(client, other, asked).await
                }
                "say" | "reads" | "cannot_read" => messages(client, other, asked).await,
                _ => devices(client, other, asked).await,
            }
        }
    }
}

async fn begin(session: &mut Option<Client>, api: Api, user: &str) -> Result<Value, Failure> {
    let client = session.insert(Client::begin(api, user, PASSWORD).await?);
    client.sync().await?;
    let machine = &client.machine;
    Ok(json!({ "user_id": machine.user_id(), "device_id": machine.device_id(), "access_token": client.api.token() }))
}

fn text<'a>(asked: &'a Value, field: &str) -> Result<&'a str, Failure> {
    asked[field].as_str().ok_or_else(|| format!("no {field} in {asked}").into())
}

fn room(asked: &Value) -> Result<OwnedRoomId, Failure> {
    Ok(text(asked, "room")?.try_into()?)
}

fn user(asked: &Value) -> Result<OwnedUserId, Failure> {
    Ok(text(asked, "user")?.try_into()?)
}

async fn in_rooms(client: &mut Client, what: &str, asked: &Value) -> Result<Value, Failure> {
    match what {
        "create_room" => {
            let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
            let encryption = json!({ "type": "m.room.encryption", "state_key": "", "content": content });
            let created = client
                .api
                .post("createRoom", json!({ "preset": "private_chat", "initial_state": [encryption] }))
                .await?;
            let room_id = OwnedRoomId::try_from(text(&created, "room_id")?)?;
            until!(client, "the room", client.machine.room_settings(&room_id));
            return Ok(json!(room_id));
        }
        "invite" => {
            history::share(client, &room(asked)?, &user(asked)?).await?;
            let path = format!("rooms/{}/invite", escaped(text(asked, "room")?));
            client.api.post(&path, json!({ "user_id": text(asked, "user")? })).await?;
        }
        "join" => {
            let room_id = room(asked)?;
            until!(client, "the invitation", client.invitations.contains_key(&room_id).then_some(()));
            client.api.post(&format!("join/{}", escaped(room_id.as_str())), json!({})).await?;
            until!(client, "the room", client.machine.room_settings(&room_id));
        }
        "leave" => {
            client.api.post(&format!("rooms/{}/leave", escaped(text(asked, "room")?)), json!({})).await?;
        }
        "sees_member" => {
            let (room_id, user_id, membership) = (room(asked)?, user(asked)?, text(asked, "membership")?);
            until!(client, user_id, {
                let members = client.members(&room_id).await?;
                (members.contains(&user_id) == (membership == "join")).then_some(())
            });
            let held = client.machine.follow(&user_id);
            client.keep(held)?;
        }
        _ => {
            client.api.post("logout", json!({})).await?;
        }
    }
    Ok(Value::Null)
}

async fn messages(client: &mut Client, what: &str, asked: &Value) -> Result<Value, Failure> {
    let room_id = room(asked)?;
    match what {
        "say" => {
            let content = json!({ "msgtype": "m.text", "body": text(asked, "body")? });
            let content = content.as_object().cloned().unwrap_or_default();
            Ok(json!(client.send_to_room(&room_id, "m.room.message", &content).await?))
        }
        "reads" => {
            let (event, body) = (text(asked, "event")?, text(asked, "body")?);
            until!(client, body, {
                history::take(client, &room_id).await?;
                (read(client, &room_id, event).await?.as_deref() == Some(body)).then_some(())
            });
            Ok(Value::Null)
        }
        _ => match read(client, &room_id, text(asked, "event")?).await? {
            None => Ok(Value::Null),
            Some(_) => Err("it can read that".into()),
        },
    }
}

/// The text of an encrypted event, when it can be read.
async fn read(client: &mut Client, room_id: &ruma::RoomId, event: &str) -> Result<Option<String>, Failure> {
    let path = format!("rooms/{}/event/{}", escaped(room_id.as_str()), escaped(event));
    let (status, event) = client.api.ask(reqwest::Method::GET, &path, None).await?;
    if status == StatusCode::NOT_FOUND {
        // It may be on its way from another server.
        return Ok(None);
    }
    let Ok(held) = client.machine.decrypt(room_id, event.as_object().ok_or("an event is an object")?) else {
        return Ok(None);
    };
    let decrypted = client.keep(held)?;
    Ok(decrypted.content.get("body").and_then(Value::as_str).map(str::to_owned))
}

async fn devices(client: &mut Client, what: &str, asked: &Value) -> Result<Value, Failure> {
    match what {
        "cross_sign" => {
            let held = client.machine.bootstrap_cross_signing();
            client.keep(held)?;
            client.send_requests().await?;
        }
        "sees_device" => {
            let (user_id, device_id): (_, OwnedDeviceId) = (user(asked)?, text(asked, "device")?.into());
            let held = client.machine.follow(&user_id);
            client.keep(held)?;
            let is_there = |client: &Client| client.machine.device(&user_id, &device_id).is_some();
            until!(client, device_id, (is_there(client) == (asked["present"] == true)).then_some(()));
        }
        "sees_verified" => {
            let (user_id, device_id): (_, OwnedDeviceId) = (user(asked)?, text(asked, "device")?.into());
            let is_so = |client: &Client| client.machine.is_device_verified(&user_id, &device_id);
            until!(client, "the verified device", is_so(client).then_some(()));
        }
        "back_up" => return Ok(json!(storage::back_up(client).await?)),
        "restore" => storage::restore(client, text(asked, "key")?).await?,
        "request_verification" => return request_verification(client, asked).await,
        "accept_verification" => {
            let flow_id = until!(client, "a request", flow_at(client, |stage| *stage == Stage::Offered));
            let held = client.machine.accept_verification(&flow_id);
            client.keep(held)?;
            return emoji(client, flow_id).await;
        }
        "confirm" => {
            let flow_id = client.verifying.clone().ok_or("nothing is being verified")?;
            let held = client.machine.confirm_sas(&flow_id);
            client.keep(held)?;
            until!(client, "the confirmation", flow_at(client, |stage| *stage == Stage::Done));
        }
        other => return Err(format!("cannot {other}").into()),
    }
    Ok(Value::Null)
}

/// A verification that is at a stage.
fn flow_at(client: &Client, is_right: impl Fn(&Stage) -> bool) -> Option<FlowId> {
    let flow = |flow_id: &&FlowId| client.machine.verification(flow_id).is_some_and(|flow| is_right(&flow.stage));
    client.flows.iter().rev().find(flow).cloned()
}

/// Asks the devices that were named, or all of our own, and begins with the emoji when one is ready.
async fn request_verification(client: &mut Client, asked: &Value) -> Result<Value, Failure> {
    let user_id = user(asked).unwrap_or_else(|_| client.machine.user_id().to_owned());
    let device: Vec<OwnedDeviceId> = text(asked, "device").into_iter().map(OwnedDeviceId::from).collect();
    let held = client.machine.request_verification(&user_id, &device).ok_or("no device is known")?;
    let flow_id = client.keep(held)?;
    client.flows.push(flow_id.clone());
    until!(client, "an answer", flow_at(client, |stage| *stage == Stage::Ready));
    let held = client.machine.start_sas(&flow_id);
    client.keep(held)?;
    emoji(client, flow_id).await
}

async fn emoji(client: &mut Client, flow_id: FlowId) -> Result<Value, Failure> {
    client.verifying = Some(flow_id.clone());
    let symbols = |client: &Client| match client.machine.verification(&flow_id)?.stage {
        Stage::Compare { emoji, .. } => Some(emoji.map(|emoji| emoji.symbol)),
        _ => None,
    };
    let symbols = until!(client, "emoji", symbols(client));
    Ok(json!(symbols))
}
