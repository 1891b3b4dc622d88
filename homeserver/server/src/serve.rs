//! Serving: from the first socket to the last.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use storage::Tasks;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};

use crate::{
    bots,
    configuration::{Configuration, Loaded, Network, WebAddress},
    data_directory::Use,
    doors::{ADMINISTRATION_PATHS, Doors, FEDERATION_PATHS},
    greeting::{Addresses, greeting},
    health, housekeeping,
    listen::{Limits, Listener},
    metrics, open_files, registration_token,
    stopping::{self, Stopping},
    tls::Certificate,
    wiring::{self, House, StartError},
    world,
};

/// Connections that wait to be accepted: all clients come back at once after a restart.
const BACKLOG: u32 = 1024;

/// What is left of the ten seconds that a stop may take, after [`Limits::drain_timeout`].
const SENDER_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until a signal says to stop.
pub(crate) async fn serve(loaded: &Loaded) -> Result<(), StartError> {
    let configuration = &loaded.configuration;
    open_files::take_all();
    let mut signals = Signals::new()?;
    let metrics_handle = metrics::start();
    let sockets = Sockets::bind(configuration)?;
    let certificate = wiring::certificate(configuration)?;
    let addresses = sockets.addresses()?;
    let bots = bots::prepare(configuration, addresses.client, &world::system()).await?;
    let mut with_bots = configuration.clone();
    with_bots.application_services_registrations.0.extend(bots.as_ref().map(|bots| bots.registration.clone()));
    let house = House::open(&with_bots, &world::system(), Use::Serving).await?;
    house.engine.prepare_services().await.map_err(|error| StartError::Services(Box::new(error)))?;
    registration_token::settle(configuration, &house).await?;
    if let Err(error) = house.engine.discard_unfinished_uploads() {
        tracing::warn!(%error, "what is left of unfinished uploads cannot be removed");
    }

    let (stop, stopping) = stopping::channel();
    let names = bots.as_ref().map(bots::Prepared::user_ids).unwrap_or_default();
    // Nobody has to read it.
    let _ = std::io::stdout().write_all(greeting(loaded, house.storage.backend(), &addresses, &names).as_bytes());
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let (tasks, engine) = (house.storage.tasks(), &house.engine);
    let (handle, supervisor) = (metrics_handle.clone(), tasks.clone());
    tokio::spawn(async move { supervisor.supervise("metrics", || metrics::tidy_up(handle.clone())).await });
    let mut sender = tokio::spawn(deliver(tasks.clone(), house.sender.clone(), stopping.clone()));
    let services = tokio::spawn(deliver_to_services(tasks.clone(), engine.clone(), stopping.clone()));
    let mut teller = tokio::spawn(tell_pushers(tasks.clone(), engine.clone(), stopping.clone()));
    let mut housekeeper = tokio::spawn(housekeeping::keep_house(tasks.clone(), engine.clone(), stopping.clone()));
    let mut judge = tokio::spawn(housekeeping::judge_set_aside(tasks, engine.clone(), stopping.clone()));
    let doors = OpenDoors::new(configuration, &house, &stopping, crate::metrics::router(metrics_handle));
    let mut listeners = sockets.serve(configuration, doors, certificate.clone(), &stopping);
    let bots = match bots {
        Some(bots) => Some(bots.start(world::system()).await?),
        None => None,
    };
    tracing::info!(server.name = %configuration.server_name, database = house.storage.backend(), "started");

    signals.stop_asked(certificate.as_ref()).await;
    tracing::info!("stopping");
    if let Some(bots) = bots {
        bots.stop().await;
    }
    stop.now();
    house.engine.stop();
    tokio::select! {
        () = async { while listeners.join_next().await.is_some() {} } => {}
        () = signals.stop_asked(None) => tracing::warn!("asked twice to stop: not waiting for requests in flight"),
    }
    if tokio::time::timeout(SENDER_STOP_TIMEOUT, &mut sender).await.is_err() {
        sender.abort();
    }
    // What a service does not take in time is sent again after the start.
    services.abort();
    if tokio::time::timeout(SENDER_STOP_TIMEOUT, &mut teller).await.is_err() {
        teller.abort();
    }
    if tokio::time::timeout(SENDER_STOP_TIMEOUT, &mut housekeeper).await.is_err() {
        housekeeper.abort();
    }
    if tokio::time::timeout(SENDER_STOP_TIMEOUT, &mut judge).await.is_err() {
        judge.abort();
    }
    house.storage.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Delivers to other servers until the end, whatever happens in between.
async fn deliver(tasks: Arc<Tasks>, sender: outbound::Sender, stopping: Stopping) {
    tasks.supervise("sender", || sender.clone().run(stopping.asked())).await;
}

async fn deliver_to_services(tasks: Arc<Tasks>, engine: engine::Engine, stopping: Stopping) {
    tasks.supervise("services", || engine.deliver_to_services(stopping.asked())).await;
}

/// Tells pushers until the end, whatever happens in between.
async fn tell_pushers(tasks: Arc<Tasks>, engine: engine::Engine, stopping: Stopping) {
    tasks.supervise("pushers", || engine.run_pushers(stopping.asked())).await;
}

/// SIGTERM and SIGINT stop the server, SIGHUP has it read its certificate again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let catch = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    async fn stop_asked(&mut self, certificate: Option<&Certificate>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => match certificate.map(Certificate::reload) {
                    Some(Ok(())) => tracing::info!("read the certificate again"),
                    Some(Err(error)) => tracing::error!(%error, "keeping the old certificate"),
                    None => tracing::info!("there is no certificate to read again"),
                },
            }
        }
    }
}

/// The routers behind each kind of listener.
struct OpenDoors {
    client: Doors,
    federation: Doors,
    metrics: Doors,
}

impl OpenDoors {
    fn new(configuration: &Configuration, house: &House, stopping: &Stopping, metrics: Router) -> Self {
        let base_url = configuration.well_known_client_base_url.as_ref().map(|WebAddress(url)| url.clone());
        let client_options = wiring::client_options(configuration, base_url);
        let federation_options =
            inbound::Options { well_known_server: configuration.well_known_server.as_ref().map(ToString::to_string) };
        let health = health::router(house.storage.clone(), stopping.clone());
        let federation = inbound::router(house.engine.clone(), federation_options);
        let client = Doors::new(client_api::router(house.engine.clone(), client_options));
        let client = with_administration(client, configuration, house);
        Self {
            client: client.with(FEDERATION_PATHS, federation.clone()).with(health::PATHS, health.clone()),
            federation: Doors::new(federation),
            metrics: Doors::new(metrics).with(health::PATHS, health),
        }
    }
}

/// The operators' own endpoints are served only where there is a secret to know them by.
fn with_administration(client: Doors, configuration: &Configuration, house: &House) -> Doors {
    let Some(secret) = &configuration.registration_shared_secret else { return client };
    let options = client_api::AdministrationOptions {
        registration_shared_secret: secret.reveal().to_owned(),
        rate_limits: configuration.rate_limits_enabled,
    };
    client.with(ADMINISTRATION_PATHS, client_api::administration(house.engine.clone(), options))
}

/// Bound, but nobody is let in yet.
struct Sockets {
    client: TcpListener,
    federation: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Sockets {
    fn bind(configuration: &Configuration) -> Result<Self, StartError> {
        Ok(Self {
            client: bind("listen", configuration.listen)?,
            federation: bind_if("federation.listen", configuration.federation_listen)?,
            metrics: bind_if("metrics.listen", configuration.metrics_listen)?,
        })
    }

    /// As the system has chosen them, where a port was 0.
    fn addresses(&self) -> Result<Addresses, StartError> {
        let address = |setting, socket: &TcpListener| {
            socket.local_addr().map_err(|error| {
                let address = SocketAddr::from(([0, 0, 0, 0], 0));
                StartError::Listen { setting, address, error }
            })
        };
        Ok(Addresses {
            client: address("listen", &self.client)?,
            federation: self.federation.as_ref().map(|socket| address("federation.listen", socket)).transpose()?,
            metrics: self.metrics.as_ref().map(|socket| address("metrics.listen", socket)).transpose()?,
        })
    }

    fn serve(
        self,
        configuration: &Configuration,
        doors: OpenDoors,
        certificate: Option<Certificate>,
        stopping: &Stopping,
    ) -> JoinSet<()> {
        let trusted_proxies: Arc<[Network]> = configuration.network_trusted_proxies.0.clone().into();
        let all = [
            ("client", Some(self.client), doors.client, None),
            ("federation", self.federation, doors.federation, certificate),
            ("metrics", self.metrics, doors.metrics, None),
        ];
        let count = all.iter().filter(|(_, socket, _, _)| socket.is_some()).count();
        let mut listeners = JoinSet::new();
        for (name, socket, doors, certificate) in all {
            let Some(socket) = socket else { continue };
            let trusted_proxies = trusted_proxies.clone();
            let listener = Listener { name, doors, certificate, trusted_proxies, limits: Limits::share(count) };
            listeners.spawn(listener.serve(socket, stopping.clone()));
        }
        listeners
    }
}

fn bind_if(setting: &'static str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    address.map(|address| bind(setting, address)).transpose()
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // The port of a server that was just stopped is free, though its last connections are still remembered.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| StartError::Listen { setting, address, error })
}
