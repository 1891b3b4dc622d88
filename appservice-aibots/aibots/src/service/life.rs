//! How the service begins and ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::join_all;
use moka::future::Cache;
use rules::world::World;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;

use super::{Bot, ROOM_KEPT, ROOMS_MAX, Service, presence, rooms};
use crate::budget::Budget;
use crate::configuration::{BotSettings, Configuration};
use crate::devices::Devices;
use crate::http::{Http, HttpOptions, HttpSetupError};
use crate::matrix::{CallError, Homeserver};
use crate::providers::{Candidate, Completions, ProviderSetupError};
use crate::registration::{RegistrationError, Tokens};
use crate::store::Store;
use crate::tools::{ToolSetupError, Tools};
use crate::{devices, door, listen, system, work};

/// How long to wait before a homeserver that is not there, or not ready for us, is asked again.
const START_PAUSE: Duration = Duration::from_secs(5);

/// How often what nobody asks for any more is forgotten.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no registration.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A provider cannot be set up.
    #[error(transparent)]
    Provider(#[from] ProviderSetupError),
    /// A tool cannot be set up.
    #[error(transparent)]
    Tools(#[from] ToolSetupError),
    /// HTTP cannot be set up.
    #[error(transparent)]
    Http(#[from] HttpSetupError),
    /// The folder of data cannot be made.
    #[error("cannot make `service.data_dir` {0}: {1}")]
    Folder(PathBuf, std::io::Error),
    /// The store cannot be opened.
    #[error("cannot open {0}: {1}")]
    Store(PathBuf, sqlx::Error),
    /// The address is taken.
    #[error("cannot listen at `service.listen` {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
}

/// A service that runs.
pub struct Running {
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Starts the service. Accounts are made as soon as the homeserver answers.
pub async fn start(configuration: Configuration, world: World) -> Result<Running, StartError> {
    let listener = TcpListener::bind(configuration.service.listen)
        .await
        .map_err(|error| StartError::Listen(configuration.service.listen, error))?;
    start_at(listener, configuration, world).await
}

/// Starts the service at a socket that listens already.
pub async fn start_at(
    listener: TcpListener,
    configuration: Configuration,
    world: World,
) -> Result<Running, StartError> {
    let folder = &configuration.service.data_dir;
    system::make_private_folder(folder).map_err(|error| StartError::Folder(folder.clone(), error))?;
    let service = Arc::new(assemble(configuration, world).await?);
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(listen::serve(listener, door::router(&service), stopping.clone()));
    tasks.spawn(until_stopped(live(service.clone()), stopping.clone()));
    tasks.spawn(until_stopped(prune(service.clone()), stopping));
    Ok(Running { service, stop, tasks })
}

impl Running {
    /// Ends it. What is in the middle goes on when it is started again.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.service.say_goodbye().await;
        self.service.store.close().await;
    }
}

async fn assemble(configuration: Configuration, world: World) -> Result<Service, StartError> {
    let tokens = Tokens::read(&configuration.registration_file())?;
    let user_agent = format!("nudge-aibots/{}", env!("CARGO_PKG_VERSION"));
    let http = Http::new(&HttpOptions { extra_root_certificates_pem: Vec::new(), user_agent })?;
    let path = configuration.service.data_dir.join("aibots.db");
    let store = Store::open(&path).await.map_err(|error| StartError::Store(path, error))?;
    let environment = |name: &str| std::env::var(name).ok();
    let completions = Completions::new(&configuration.providers, &environment, &http, world.clone())?
        .with_answers_at_once(configuration.conversation.answers_at_once);
    let tools = Tools::new(&configuration.tools, configuration.tool_limits, &environment, &http, &world)?;
    let bots = configuration.bots.iter().map(|settings| bot(&configuration, &completions, settings));
    let base = configuration.homeserver.url.clone();
    Ok(Service {
        bots: bots.collect(),
        completions,
        tools,
        homeserver: Homeserver::new(http.clone(), base, tokens.as_token.clone(), world.clone()),
        store,
        devices: Devices::default(),
        keys: Notify::new(),
        budget: Budget::new(configuration.conversation.daily_tokens),
        work: Notify::new(),
        mood: Notify::new(),
        tokens,
        rooms: Cache::builder().max_capacity(ROOMS_MAX).time_to_live(ROOM_KEPT).build(),
        room_changes: rooms::RoomChanges::default(),
        windows: Mutex::new(BTreeMap::new()),
        apologies: Mutex::new(BTreeMap::new()),
        world,
        configuration,
    })
}

fn bot(configuration: &Configuration, completions: &Completions, settings: &BotSettings) -> Bot {
    let candidate = |model: &String| Candidate { provider: settings.provider.clone(), model: model.clone() };
    let candidates: Vec<Candidate> =
        std::iter::once(&settings.model).chain(&settings.fallback_model).map(candidate).collect();
    Bot {
        user_id: configuration.user_id(&settings.localpart),
        sees: settings.vision.unwrap_or_else(|| completions.sees(&candidates[0])),
        settings: settings.clone(),
        candidates,
        is_failing: AtomicBool::new(false),
    }
}

/// Makes the bots, then lets them be.
async fn live(service: Arc<Service>) {
    while let Err(error) = service.register_bots().await {
        tracing::warn!(%error, "the homeserver does not let us make our bots; trying again");
        tokio::time::sleep(START_PAUSE).await;
    }
    if service.configuration.conversation.lobby
        && let Err(error) = service.open_lobby().await
    {
        tracing::warn!(%error, "there is no room where people can find the bots; they can be invited all the same");
    }
    tracing::info!(bots = service.bots().len(), "the bots are there");
    let keep_devices = async {
        if service.configuration.conversation.encryption {
            join_all(service.bots().iter().map(|bot| devices::run(&service, bot))).await;
        }
    };
    tokio::join!(work::run(service.clone()), presence::run(service.clone()), keep_devices);
}

async fn prune(service: Arc<Service>) {
    loop {
        if let Err(error) = service.store.prune(service.now_ms()).await {
            tracing::warn!(%error, "cannot forget what is old");
        }
        tokio::time::sleep(PRUNE_EVERY).await;
    }
}

async fn until_stopped(task: impl Future<Output = ()>, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        () = listen::stops(&mut stopping) => {}
        () = task => {}
    }
}

/// Why a check fails.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The service does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The homeserver does not take us for whom we are.
    #[error("{0}")]
    Homeserver(String),
}

/// Whether the homeserver knows this service, and can reach it. Gives what was found, in words.
pub async fn check(configuration: Configuration, world: World) -> Result<String, CheckError> {
    let running = start(configuration, world).await?;
    let service = running.service.clone();
    let id = service.configuration.service.id.clone();
    let failed = |what: &str, error: CallError| CheckError::Homeserver(format!("{what}: {error}"));
    let who = service.homeserver.who_am_i().await.map_err(|error| failed("the homeserver refuses our token", error));
    let outcome = match who {
        Ok(user_id) => {
            let pinged = service.homeserver.ping(&id, &service.world.random_string(12)).await;
            let pinged = pinged.map_err(|error| failed("the homeserver cannot reach us at `service.url`", error));
            pinged
                .map(|duration_ms| format!("The homeserver knows us as {user_id} and reaches us in {duration_ms} ms."))
        }
        Err(error) => Err(error),
    };
    running.stop().await;
    outcome
}
