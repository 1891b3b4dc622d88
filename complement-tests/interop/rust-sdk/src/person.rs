//! A user with a client that syncs, and what tests ask of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use matrix_sdk::{
    Client, Room, RoomState, ThreadingSupport,
    config::SyncSettings,
    encryption::EncryptionSettings,
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId, UserId,
        api::client::{account::register, uiaa},
        events::{
            AnyMessageLikeEventContent,
            room::{member::MembershipState, message::RoomMessageEventContent},
        },
    },
    sliding_sync::VersionBuilder,
};
use matrix_sdk_ui::{
    Timeline,
    sync_service::SyncService,
    timeline::{EventTimelineItem, RoomExt as _, TimelineEventItemId},
};
use tokio::time::{Instant, sleep, timeout};

const PASSWORD: &str = "correct horse battery staple";
/// After this long something is taken as never coming: generous, for a machine that does other things too.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// Not everything that a client works out after a sync is announced.
const TICK: Duration = Duration::from_millis(250);
const LONG_POLL: Duration = Duration::from_secs(10);

pub struct Server {
    pub url: String,
    pub name: String,
}

#[derive(Clone, Copy)]
pub enum Sync {
    Classic,
    Sliding,
}

pub struct Person {
    pub client: Client,
    url: String,
    /// Runs as long as it is held.
    service: Option<Arc<SyncService>>,
}

impl Person {
    /// A new user, by the stages that the server asks for.
    pub async fn register(server: &Server, name: &str, sync: Sync) -> Result<Self> {
        let client = client(&server.url).await?;
        let mut request = register::v3::Request::new();
        request.username = Some(name.to_owned());
        request.password = Some(PASSWORD.to_owned());
        request.inhibit_login = true;
        let refusal = client.matrix_auth().register(request.clone()).await.err().context("no stages were asked for")?;
        let mut dummy = uiaa::Dummy::new();
        dummy.session = refusal.as_uiaa_response().context("not an interactive refusal")?.session.clone();
        request.auth = Some(uiaa::AuthData::Dummy(dummy));
        client.matrix_auth().register(request).await?;
        Self::log_in(&server.url, name, sync).await
    }

    /// Another session of the same user.
    pub async fn log_in_again(&self, sync: Sync) -> Result<Self> {
        Self::log_in(&self.url, self.user_id().as_str(), sync).await
    }

    async fn log_in(url: &str, name: &str, sync: Sync) -> Result<Self> {
        let client = client(url).await?;
        let login = client.matrix_auth().login_username(name, PASSWORD).initial_device_display_name("interop");
        login.request_refresh_token().send().await?;
        ensure!(client.session_tokens().is_some_and(|tokens| tokens.refresh_token.is_some()), "no refresh token");
        client.event_cache().subscribe()?;
        let service = match sync {
            Sync::Classic => {
                tokio::spawn(sync_forever(client.clone()));
                None
            }
            Sync::Sliding => {
                let service = SyncService::builder(client.clone()).build().await?;
                service.start().await;
                Some(Arc::new(service))
            }
        };
        Ok(Self { client, url: url.to_owned(), service })
    }

    pub fn user_id(&self) -> &UserId {
        self.client.user_id().expect("a person is logged in")
    }

    pub fn service(&self) -> Result<&SyncService> {
        self.service.as_deref().context("it does not sync by sliding sync")
    }

    /// Waits until `found` finds something; it is asked again when a room changed.
    pub async fn until<T>(&self, what: &str, mut found: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        let mut changes = self.client.room_info_notable_update_receiver();
        while start.elapsed() < DEADLINE {
            if let Some(found) = found().await? {
                return Ok(found);
            }
            if let Ok(Err(_)) = timeout(TICK, changes.recv()).await {
                sleep(TICK).await;
            }
        }
        let state = self.service.as_ref().map(|service| service.state().get());
        bail!("{} never saw {what}; its sliding sync: {state:?}", self.user_id())
    }

    /// Waits until something is true.
    pub async fn until_true(&self, what: &str, mut is: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        self.until(what, async || Ok(is().await?.then_some(()))).await
    }

    /// A room in the given state.
    pub async fn room(&self, room_id: &RoomId, state: RoomState) -> Result<Room> {
        let found = async || Ok(self.client.get_room(room_id).filter(|room| room.state() == state));
        self.until(&format!("{room_id} as {state:?}"), found).await
    }

    pub async fn joined(&self, room_id: &RoomId) -> Result<Room> {
        self.room(room_id, RoomState::Joined).await
    }

    /// Joins, and waits until both see it.
    pub async fn joins(&self, room_id: &RoomId, owner: &Person) -> Result<Room> {
        self.client.join_room_by_id(room_id).await?;
        owner.sees_member(room_id, self, MembershipState::Join).await?;
        self.joined(room_id).await
    }

    /// Waits for the membership of another.
    pub async fn sees_member(&self, room_id: &RoomId, other: &Person, membership: MembershipState) -> Result<()> {
        let room = self.joined(room_id).await?;
        let what = format!("{} as {membership}", other.user_id());
        self.until_true(&what, async || {
            let member = room.get_member_no_sync(other.user_id()).await?;
            Ok(member.is_some_and(|member| *member.membership() == membership))
        })
        .await
    }

    /// Opens a room: until then sliding sync tells no more of it than a list of rooms shows.
    pub async fn timeline(&self, room_id: &RoomId) -> Result<Timeline> {
        if let Some(service) = &self.service {
            service.room_list_service().subscribe_to_rooms(&[room_id]).await;
        }
        Ok(self.joined(room_id).await?.timeline().await?)
    }

    /// Waits for an item of a timeline that is as wished.
    pub async fn item(
        &self,
        timeline: &Timeline,
        event_id: &OwnedEventId,
        what: &str,
        is: impl Fn(&EventTimelineItem) -> bool,
    ) -> Result<EventTimelineItem> {
        let found = async || Ok(timeline.item_by_event_id(event_id).await.filter(|item| is(item)));
        self.until(what, found).await
    }

    pub async fn send(&self, room_id: &RoomId, content: impl Into<AnyMessageLikeEventContent>) -> Result<OwnedEventId> {
        let content: AnyMessageLikeEventContent = content.into();
        let room = self.joined(room_id).await?;
        Ok(room.send(content).await?.response.event_id)
    }

    pub async fn say(&self, room_id: &RoomId, body: &str) -> Result<OwnedEventId> {
        self.send(room_id, RoomMessageEventContent::text_plain(body)).await
    }

    pub async fn create_room(
        &self,
        request: matrix_sdk::ruma::api::client::room::create_room::v3::Request,
    ) -> Result<OwnedRoomId> {
        let room_id = self.client.create_room(request).await?.room_id().to_owned();
        self.joined(&room_id).await?;
        Ok(room_id)
    }
}

async fn client(url: &str) -> Result<Client> {
    let encryption = EncryptionSettings { auto_enable_cross_signing: true, ..EncryptionSettings::default() };
    let builder = Client::builder().homeserver_url(url).handle_refresh_tokens().with_encryption_settings(encryption);
    let builder = builder.with_threading_support(ThreadingSupport::Enabled { with_subscriptions: false });
    Ok(builder.sliding_sync_version_builder(VersionBuilder::DiscoverNative).build().await?)
}

async fn sync_forever(client: Client) {
    let settings = SyncSettings::default().timeout(LONG_POLL);
    // It ends with the logout, or with the test.
    let _ended = client.sync(settings).await;
}

pub fn by_id(event_id: &OwnedEventId) -> TimelineEventItemId {
    TimelineEventItemId::EventId(event_id.clone())
}
