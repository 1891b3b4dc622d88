//! One server of a universe: everything that the binary has but sockets and workers.

use std::sync::Arc;

use engine::{Engine, PasswordHashing, Registration, Services, Settings};
use outbound::{Federation, FederationOptions, KeyQuery, Sender, SenderOptions};
use rules::{event::ServerKey, world::World};
use ruma::{OwnedServerName, OwnedServerSigningKeyId, RoomVersionId, ServerName};
use storage::{Durability, Storage};
use tempfile::TempDir;

use crate::{Failure, network::Network};

/// The longest that a queue waits before it tries again.
pub(crate) const BACKOFF_MAX_MS: u64 = 60_000;

/// A server that can be stopped and started.
pub(crate) struct Homeserver {
    name: OwnedServerName,
    key: Arc<ServerKey>,
    /// `None`: the database lives in memory, and the server cannot be restarted.
    directory: Option<TempDir>,
    world: World,
    network: Network,
    /// The running server. Replaced by each restart.
    pub(crate) engine: Engine,
}

impl Homeserver {
    /// Starts a server for the first time.
    pub(crate) async fn start(
        name: OwnedServerName,
        network: Network,
        world: World,
        directory: Option<TempDir>,
    ) -> Result<Self, Failure> {
        let mut seed = [0; 32];
        world.chance.fill(&mut seed);
        let key = ServerKey::from_seed(name.clone(), "simulated", &seed).map_err(Failure::new)?;
        let key = Arc::new(key);
        let engine = start(&name, &key, directory.as_ref(), &world, &network).await?;
        Ok(Self { name, key, directory, world, network, engine })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &ServerName {
        &self.name
    }

    /// Its memory.
    pub(crate) fn storage(&self) -> &Storage {
        self.engine.storage()
    }

    /// Its queues.
    pub(crate) fn sender(&self) -> &Sender {
        self.engine.sender()
    }

    /// Whether its memory outlives it.
    pub(crate) fn can_restart(&self) -> bool {
        self.directory.is_some()
    }

    /// The id of its key.
    pub(crate) fn key_id(&self) -> OwnedServerSigningKeyId {
        self.key.key_id().clone()
    }

    /// Stops it and starts it again with a new key, which others have to fetch before they believe it.
    pub(crate) async fn rotate(&mut self, number: u64) -> Result<(), Failure> {
        let mut seed = [0; 32];
        self.world.chance.fill(&mut seed);
        let key = ServerKey::from_seed(self.name.clone(), &format!("rotated{number}"), &seed);
        self.key = Arc::new(key.map_err(Failure::new)?);
        self.restart().await
    }

    /// Asks another server for its keys, as for somebody who asks this one as a notary.
    pub(crate) async fn hear_of_key(
        &self,
        server: &ServerName,
        key_id: &OwnedServerSigningKeyId,
    ) -> Result<(), Failure> {
        let query = KeyQuery { key_ids: vec![key_id.clone()], valid_until_ms: None };
        let queries = [(server.to_owned(), query)].into();
        let answer = self.engine.federation().key_ring().notary_response(queries).await.map_err(Failure::new)?;
        if answer.is_empty() {
            return Err(Failure::new(format!("{} did not hear of the new key of {server}", self.name)));
        }
        Ok(())
    }

    /// Stops it and starts it again: what was in memory only is gone.
    pub(crate) async fn restart(&mut self) -> Result<(), Failure> {
        self.network.disconnect(&self.name);
        self.engine.stop();
        self.engine.storage().close().await;
        self.engine = start(&self.name, &self.key, self.directory.as_ref(), &self.world, &self.network).await?;
        Ok(())
    }
}

async fn start(
    name: &OwnedServerName,
    key: &Arc<ServerKey>,
    directory: Option<&TempDir>,
    world: &World,
    network: &Network,
) -> Result<Engine, Failure> {
    let url = match directory {
        Some(directory) => format!("sqlite:{}", directory.path().join(format!("{name}.db")).display()),
        None => "sqlite::memory:".to_owned(),
    };
    let options =
        storage::Options { url, durability: Durability::Relaxed, read_connections: 1, server_name: name.clone() };
    let storage = Storage::open(&options).await.map_err(Failure::new)?;
    let federation = Federation::new(FederationOptions {
        key: key.clone(),
        storage: storage.clone(),
        transport: Arc::new(network.line_of(name)),
        world: world.clone(),
        notaries: Vec::new(),
    });
    federation.key_ring().note_own_key().await.map_err(Failure::new)?;
    let patience =
        SenderOptions { backoff_base_ms: 1_000, backoff_max_ms: BACKOFF_MAX_MS, workers_max: 1, device_names: true };
    let sender = Sender::new(federation.clone(), patience);
    let settings = Settings {
        services: Services::default(),
        server_name: name.clone(),
        registration: Registration::Open,
        default_room_version: RoomVersionId::V12,
        access_token_lifetime_ms: 3_600_000,
        password_hashing: PasswordHashing::Cheap,
        federation_device_names: true,
        partial_state_joins: true,
        presence: true,
        accounts: engine::AccountSettings::default(),
        server_notices_user: None,
        media: engine::MediaSettings::in_folder(std::path::Path::new("no-media-here")),
        lists_rooms_to_servers: true,
    };
    let engine = Engine::start(settings, storage, federation, sender, world.clone());
    network.connect(name, inbound::router(engine.clone(), inbound::Options::default()));
    Ok(engine)
}
