//! One session of matrix-sdk that does what it is told by lines of JSON, for `encryption.py`.

#![recursion_limit = "256"]

use std::{
    io::{BufRead as _, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    Client, Room, RoomState,
    config::SyncSettings,
    encryption::{
        BackupDownloadStrategy, EncryptionSettings,
        verification::{SasState, SasVerification, VerificationRequest, VerificationRequestState},
    },
    ruma::{
        OwnedEventId, OwnedUserId, RoomId, UserId,
        api::client::{account::register, room::create_room, uiaa},
        events::{
            InitialStateEvent, key::verification::request::ToDeviceKeyVerificationRequestEvent,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PASSWORD: &str = "correct horse battery staple";
const DEADLINE: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(250);
const LONG_POLL: Duration = Duration::from_secs(10);

/// Who asked to be verified, and in which flow.
type Requests = Arc<Mutex<Vec<(OwnedUserId, String)>>>;

#[derive(Default)]
struct Agent {
    client: Option<Client>,
    requests: Requests,
    verification: Option<SasVerification>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut agent = Agent::default();
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let asked: Value = serde_json::from_str(&line)?;
        let answer = match Box::pin(agent.act(&asked)).await {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": format!("{error:?}") }),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn text<'a>(asked: &'a Value, field: &str) -> Result<&'a str> {
    asked[field].as_str().with_context(|| format!("no {field} in {asked}"))
}

/// Waits until something is there.
async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(found) = found().await? {
            return Ok(found);
        }
        sleep(TICK).await;
    }
    bail!("never saw {what}")
}

impl Agent {
    async fn act(&mut self, asked: &Value) -> Result<Value> {
        match text(asked, "act")? {
            "register" => self.register(text(&asked["server"], "baseUrl")?, text(asked, "name")?).await,
            "log_in" => self.log_in(text(&asked["server"], "baseUrl")?, text(asked, "user")?).await,
            "log_out" => done(self.client()?.logout().await?),
            "create_room" => self.create_room().await,
            "invite" => done(self.joined(asked).await?.invite_user_by_id(user(asked)?).await?),
            "join" => self.join(asked).await,
            "leave" => done(self.joined(asked).await?.leave().await?),
            "sees_member" => self.sees_member(asked).await,
            "sees_device" => self.sees_device(asked).await,
            "say" => self.say(asked).await,
            "reads" => self.reads(asked).await,
            "cannot_read" => {
                ensure!(self.decrypted(asked).await?.is_none(), "it can read that");
                Ok(Value::Null)
            }
            "cross_sign" => done(self.client()?.encryption().bootstrap_cross_signing_if_needed(None).await?),
            "sees_verified" => self.sees_verified(asked).await,
            "request_verification" => self.request_verification().await,
            "accept_verification" => self.accept_verification().await,
            "confirm" => self.confirm().await,
            "back_up" => {
                let key = self.client()?.encryption().recovery().enable().wait_for_backups_to_upload().await?;
                Ok(json!(key))
            }
            "restore" => {
                self.client()?.encryption().wait_for_e2ee_initialization_tasks().await;
                done(self.client()?.encryption().recovery().recover(text(asked, "key")?).await?)
            }
            other => bail!("cannot {other}"),
        }
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("not logged in")
    }

    async fn register(&mut self, url: &str, name: &str) -> Result<Value> {
        let client = client(url).await?;
        let mut request = register::v3::Request::new();
        request.username = Some(name.to_owned());
        request.password = Some(PASSWORD.to_owned());
        request.inhibit_login = true;
        let refusal = client.matrix_auth().register(request.clone()).await.err().context("no stages were asked for")?;
        let mut dummy = uiaa::Dummy::new();
        dummy.session = refusal.as_uiaa_response().context("not an interactive refusal")?.session.clone();
        request.auth = Some(uiaa::AuthData::Dummy(dummy));
        client.matrix_auth().register(request).await?;
        self.log_in(url, name).await
    }

    async fn log_in(&mut self, url: &str, name: &str) -> Result<Value> {
        let client = client(url).await?;
        client.matrix_auth().login_username(name, PASSWORD).initial_device_display_name("agent").send().await?;
        let requests = Arc::clone(&self.requests);
        client.add_event_handler(async move |event: ToDeviceKeyVerificationRequestEvent| {
            let flow = event.content.transaction_id.to_string();
            requests.lock().expect("nobody panics here").push((event.sender, flow));
        });
        client.sync_once(SyncSettings::default()).await?;
        let syncing = client.clone();
        tokio::spawn(async move {
            // It ends when the server does not answer; whoever is logged in tries again.
            while syncing.access_token().is_some() {
                let _ended = syncing.sync(SyncSettings::default().timeout(LONG_POLL)).await;
                sleep(TICK).await;
            }
        });
        let session = client.session_meta().context("no session")?.clone();
        let token = client.access_token().context("no token")?;
        self.client = Some(client);
        Ok(json!({ "user_id": session.user_id, "device_id": session.device_id, "access_token": token }))
    }

    async fn create_room(&self) -> Result<Value> {
        let mut request = create_room::v3::Request::new();
        request.preset = Some(create_room::v3::RoomPreset::PrivateChat);
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        request.initial_state = vec![InitialStateEvent::with_empty_state_key(encryption).to_raw_any()];
        let room = self.client()?.create_room(request).await?;
        Ok(json!(room.room_id()))
    }

    async fn room(&self, asked: &Value, state: RoomState) -> Result<Room> {
        let room_id = RoomId::parse(text(asked, "room")?)?;
        let client = self.client()?;
        until("the room", async || Ok(client.get_room(&room_id).filter(|room| room.state() == state))).await
    }

    async fn joined(&self, asked: &Value) -> Result<Room> {
        self.room(asked, RoomState::Joined).await
    }

    async fn join(&self, asked: &Value) -> Result<Value> {
        self.room(asked, RoomState::Invited).await?.join().await?;
        self.joined(asked).await?;
        Ok(Value::Null)
    }

    async fn sees_member(&self, asked: &Value) -> Result<Value> {
        let (room, user, wanted) = (self.joined(asked).await?, user(asked)?, text(asked, "membership")?);
        until("the member", async || {
            let member = room.get_member_no_sync(user).await?;
            Ok(member.filter(|member| member.membership().as_str() == wanted).map(|_| Value::Null))
        })
        .await
    }

    async fn sees_device(&self, asked: &Value) -> Result<Value> {
        let (user, device, wanted) = (user(asked)?, text(asked, "device")?, asked["present"] == true);
        let encryption = self.client()?.encryption();
        until("the device", async || {
            encryption.request_user_identity(user).await?;
            let found = encryption.get_device(user, device.into()).await?;
            Ok((found.is_some() == wanted).then_some(Value::Null))
        })
        .await
    }

    async fn say(&self, asked: &Value) -> Result<Value> {
        let room = self.joined(asked).await?;
        until("encryption", async || Ok(room.latest_encryption_state().await?.is_encrypted().then_some(()))).await?;
        let sent = room.send(RoomMessageEventContent::text_plain(text(asked, "body")?)).await?;
        Ok(json!(sent.response.event_id))
    }

    /// The text of an encrypted event; none when it cannot be read.
    async fn decrypted(&self, asked: &Value) -> Result<Option<String>> {
        let event_id: OwnedEventId = text(asked, "event")?.try_into()?;
        let event = self.joined(asked).await?.event(&event_id, None).await?;
        if event.encryption_info().is_none() {
            return Ok(None);
        }
        let event: Value = event.raw().deserialize_as_unchecked()?;
        Ok(event["content"]["body"].as_str().map(ToOwned::to_owned))
    }

    async fn reads(&self, asked: &Value) -> Result<Value> {
        let body = text(asked, "body")?;
        let reads = async || match self.decrypted(asked).await {
            // It may be on its way from another server.
            Err(error) if error.to_string().contains("M_NOT_FOUND") => Ok(None),
            read => Ok(read?.filter(|read| read == body)),
        };
        until(body, reads).await.map(|_| Value::Null)
    }

    async fn sees_verified(&self, asked: &Value) -> Result<Value> {
        let (user, device) = (user(asked)?, text(asked, "device")?);
        let encryption = self.client()?.encryption();
        until("the verified device", async || {
            encryption.request_user_identity(user).await?;
            let found = encryption.get_device(user, device.into()).await?;
            Ok(found.filter(|device| device.is_cross_signed_by_owner()).map(|_| Value::Null))
        })
        .await
    }

    /// Asks the user's other devices, and begins with the emoji when one is ready.
    async fn request_verification(&mut self) -> Result<Value> {
        let client = self.client()?;
        let own = client.user_id().context("not logged in")?;
        let identity = until("the own identity", async || Ok(client.encryption().request_user_identity(own).await?));
        let request = identity.await?.request_verification().await?;
        until("an answer", async || Ok(request.is_ready().then_some(()))).await?;
        let sas = request.start_sas().await?.context("it cannot be done with emoji")?;
        self.emojis(sas).await
    }

    async fn accept_verification(&mut self) -> Result<Value> {
        let (user, flow) = until("a request", async || {
            Ok(self.requests.lock().expect("nobody panics here").pop())
        })
        .await?;
        let encryption = self.client()?.encryption();
        let request: VerificationRequest =
            until("the request", async || Ok(encryption.get_verification_request(&user, &flow).await)).await?;
        request.accept().await?;
        let sas = until("the emoji", async || match request.state() {
            VerificationRequestState::Transitioned { verification } => Ok(verification.sas()),
            VerificationRequestState::Cancelled(info) => bail!("cancelled: {}", info.reason()),
            _ => Ok(None),
        })
        .await?;
        if !sas.we_started() {
            sas.accept().await?;
        }
        self.emojis(sas).await
    }

    async fn emojis(&mut self, sas: SasVerification) -> Result<Value> {
        let shown = until("emoji", async || match sas.state() {
            SasState::KeysExchanged { emojis, .. } => Ok(Some(emojis.context("there are no emoji")?)),
            SasState::Cancelled(info) => bail!("cancelled: {}", info.reason()),
            _ => Ok(None),
        })
        .await?;
        self.verification = Some(sas);
        Ok(json!(shown.emojis.map(|emoji| emoji.symbol)))
    }

    async fn confirm(&mut self) -> Result<Value> {
        let sas = self.verification.take().context("nothing to confirm")?;
        sas.confirm().await?;
        until("the other's confirmation", async || match sas.state() {
            SasState::Done { .. } => Ok(Some(Value::Null)),
            SasState::Cancelled(info) => bail!("cancelled: {}", info.reason()),
            _ => Ok(None),
        })
        .await
    }
}

async fn client(url: &str) -> Result<Client> {
    let encryption = EncryptionSettings {
        backup_download_strategy: BackupDownloadStrategy::OneShot,
        ..EncryptionSettings::default()
    };
    Ok(Client::builder().homeserver_url(url).with_encryption_settings(encryption).build().await?)
}

fn user(asked: &Value) -> Result<&UserId> {
    Ok(text(asked, "user")?.try_into()?)
}

fn done((): ()) -> Result<Value> {
    Ok(Value::Null)
}
