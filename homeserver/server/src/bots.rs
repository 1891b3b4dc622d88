//! The bots of `appservice-aibots/aibots` inside this server: an application service like any other, which is called over
//! loopback, and calls.

use std::{fs::DirBuilder, net::SocketAddr, os::unix::fs::DirBuilderExt, path::PathBuf};

use aibots::{Running, ServiceSettings};
use rules::world::World;
use tokio::net::TcpListener;

use crate::{
    configuration::Configuration,
    wiring::{StartError, reachable},
};

/// Why there are no bots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BotsError {
    #[error("{path:?}: {error}")]
    Io {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("no port is free: {0}")]
    Socket(#[source] std::io::Error),
    #[error("bots.file: {0}")]
    Configuration(#[from] aibots::ConfigurationError),
    #[error(transparent)]
    Registration(#[from] aibots::registration::RegistrationError),
    #[error(transparent)]
    Start(#[from] aibots::StartError),
}

/// Bots that are registered, but not there yet.
pub(crate) struct Prepared {
    listener: TcpListener,
    configuration: aibots::Configuration,
    /// Their registration.
    pub(crate) registration: PathBuf,
}

/// Writes the registration of the bots, if there are to be any. `client` is where this server answers clients.
pub(crate) async fn prepare(
    configuration: &Configuration,
    client: SocketAddr,
    world: &World,
) -> Result<Option<Prepared>, StartError> {
    if !configuration.bots_enabled {
        return Ok(None);
    }
    Ok(Some(Prepared::new(configuration, client, world).await?))
}

impl Prepared {
    async fn new(configuration: &Configuration, client: SocketAddr, world: &World) -> Result<Self, BotsError> {
        let folder = configuration.data_dir.join("bots");
        let failed = |error| BotsError::Io { path: folder.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        // The port is another at each start, and the registration is written anew.
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.map_err(BotsError::Socket)?;
        let listen = listener.local_addr().map_err(BotsError::Socket)?;
        let service = ServiceSettings { listen, data_dir: folder, ..ServiceSettings::default() };
        let url = format!("http://{}", reachable(client)).parse().expect("an address makes a URL");
        let server_name = configuration.server_name.to_string();
        let configuration = match &configuration.bots_file {
            Some(file) => aibots::Configuration::read_inside(file, url, server_name, service)?,
            None => aibots::Configuration::offline(url, server_name, service)?,
        };
        let registration = aibots::registration::write(&configuration, world)?;
        Ok(Self { listener, configuration, registration })
    }

    /// Their ids.
    pub(crate) fn user_ids(&self) -> Vec<String> {
        self.configuration.bots.iter().map(|bot| self.configuration.user_id(&bot.localpart)).collect()
    }

    /// Lets them in.
    pub(crate) async fn start(self, world: World) -> Result<Running, StartError> {
        Ok(aibots::start_at(self.listener, self.configuration, world).await.map_err(BotsError::from)?)
    }
}
