//! Puts the house together, from the cellar to the roof. That this is a straight line is the proof that there is no
//! cycle.

use std::{net::IpAddr, sync::Arc, thread::available_parallelism};

use engine::{Engine, Hidden};
use outbound::{EgressError, EgressOptions, Federation, FederationOptions, HttpTransport, Sender, SenderOptions};
use rules::world::World;
use storage::{OpenError, Options, Storage, StorageError};

use crate::{
    bots::BotsError,
    configuration::{
        Configuration, Durability, JwtAlgorithm, MailSecurity, Network, PasswordHashing, RegistrationMode, Secret,
    },
    data_directory::{DataDirectory, DataDirectoryError, Use},
    open_files::Shares,
    tls::{Certificate, TlsError},
};

/// From how many connections to other servers on they are kept for calls to come: what is said in the largest rooms goes to
/// thousands of servers in less time than that.
const KEPT_FROM: usize = 4_096;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    DataDirectory(#[from] DataDirectoryError),
    #[error("database.url = {url}: {error}")]
    Database {
        url: String,
        #[source]
        error: OpenError,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{setting} = {address}: {error}; is another server running there?")]
    Listen {
        setting: &'static str,
        address: std::net::SocketAddr,
        #[source]
        error: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("federation.extra_certificate_authorities: {path:?}: {error}")]
    CertificateAuthority {
        path: std::path::PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("calls to other servers: {0}")]
    Egress(#[from] EgressError),
    #[error("media.s3_bucket: {0}")]
    ObjectStorage(#[from] media::StoreError),
    #[error(
        "registration.mode = \"token\", but there is no token: set registration.token, or run: nudge registration-token \
         create"
    )]
    NoRegistrationToken,
    #[error("the registration token cannot be remembered in data_dir: {0}")]
    RegistrationToken(#[source] std::io::Error),
    #[error("the users of application services cannot be made: {0}")]
    Services(#[source] Box<engine::EngineError>),
    #[error("the bots cannot start: {0}")]
    Bots(#[from] BotsError),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Everything but the doors.
pub(crate) struct House {
    pub(crate) directory: DataDirectory,
    pub(crate) storage: Storage,
    pub(crate) sender: Sender,
    pub(crate) engine: Engine,
}

impl House {
    /// Opens the data folder and the database and puts the engine above them. Delivers nothing yet.
    pub(crate) async fn open(configuration: &Configuration, world: &World, how: Use) -> Result<Self, StartError> {
        let directory = DataDirectory::open(configuration, world, how)?;
        let key = Arc::new(directory.signing_key(configuration)?);
        let storage = open_storage(configuration).await?;
        let holds_data = storage.head() != rules::change::Position::default();
        if holds_data {
            directory.database_holds_data()?;
        }
        directory.note_database(configuration, holds_data)?;
        let transport = HttpTransport::new(egress(configuration)?, configuration.server_name.clone(), world.clone())?;
        let media = crate::media::settings(configuration, transport.egress())?;
        let services = crate::services::services(configuration, transport.egress())?;
        let federation = Federation::new(FederationOptions {
            key,
            storage: storage.clone(),
            transport: Arc::new(transport),
            world: world.clone(),
            notaries: configuration.federation_trusted_notaries.0.clone(),
        });
        federation.key_ring().note_own_key().await?;
        let patience =
            SenderOptions { device_names: configuration.federation_device_names, ..SenderOptions::default() };
        let sender = Sender::new(federation.clone(), patience.within(Shares::of_process().called));
        let settings = engine_settings(configuration, media, services);
        let engine = Engine::start(settings, storage.clone(), federation, sender.clone(), world.clone());
        engine.start_completing();
        if let Err(error) = engine.restore_statuses().await {
            tracing::warn!(%error, "what users say about their presence is not known until they say it again");
        }
        Ok(Self { directory, storage, sender, engine })
    }
}

/// Opens the database alone.
pub(crate) async fn open_storage(configuration: &Configuration) -> Result<Storage, StartError> {
    let opened = Storage::open(&options(configuration)).await;
    opened.map_err(|error| StartError::Database { url: configuration.database().to_string(), error })
}

/// Opens the database beside a server that may be running.
pub(crate) async fn open_storage_beside(configuration: &Configuration) -> Result<Storage, StartError> {
    let opened = Storage::open_beside(&options(configuration)).await;
    opened.map_err(|error| StartError::Database { url: configuration.database().to_string(), error })
}

fn options(configuration: &Configuration) -> Options {
    Options {
        url: configuration.database().reveal().to_owned(),
        durability: match configuration.database_durability {
            Durability::Full => storage::Durability::Full,
            Durability::Relaxed => storage::Durability::Relaxed,
        },
        // Readers wait for the disk as often as for a core.
        read_connections: available_parallelism().map_or(2, |cores| cores.get() as u32).clamp(2, 16) * 2,
        server_name: configuration.server_name.clone(),
    }
}

/// Where files lie, for a command that needs nothing else.
pub(crate) fn open_store(configuration: &Configuration) -> Result<Arc<dyn media::BlobStore>, StartError> {
    let egress = outbound::Egress::new(egress(configuration)?, Arc::new(outbound::egress::SystemNames::new()?))?;
    Ok(crate::media::settings(configuration, &egress)?.store)
}

/// The certificate of the federation listener, if there is one.
pub(crate) fn certificate(configuration: &Configuration) -> Result<Option<Certificate>, TlsError> {
    match (&configuration.federation_certificate_file, &configuration.federation_private_key_file) {
        (Some(certificate), Some(key)) => Certificate::load(certificate.clone(), key.clone()).map(Some),
        _ => Ok(None),
    }
}

fn egress(configuration: &Configuration) -> Result<EgressOptions, StartError> {
    let authorities = configuration.federation_extra_certificate_authorities.0.iter().map(|path| {
        std::fs::read(path).map_err(|error| StartError::CertificateAuthority { path: path.clone(), error })
    });
    let networks = configuration.federation_allow_private_addresses.0.iter().map(outbound_network);
    let for_push = configuration.push_allow_private_addresses.0.iter().map(outbound_network);
    let for_pages = configuration.media_preview_allow_private_addresses.0.iter().map(outbound_network);
    Ok(EgressOptions {
        extra_root_certificates_pem: authorities.collect::<Result<_, _>>()?,
        overrides: configuration.federation_overrides.0.clone().into_iter().collect(),
        allow_private_addresses: networks.collect(),
        allow_private_pages: for_pages.collect(),
        allow_private_push_gateways: for_push.collect(),
        closes_connections: Shares::of_process().called < KEPT_FROM,
        user_agent: concat!("Nudge/", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}

fn outbound_network(network: &Network) -> outbound::Network {
    network.to_string().parse().expect("both packages read networks in the same notation")
}

fn engine_settings(
    configuration: &Configuration,
    media: engine::MediaSettings,
    services: appservices::Services,
) -> engine::Settings {
    let lifetime = configuration.accounts_access_token_lifetime.0;
    engine::Settings {
        services,
        lists_rooms_to_servers: configuration.rooms_directory_for_servers,
        server_name: configuration.server_name.clone(),
        registration: match configuration.registration_mode {
            RegistrationMode::Open => engine::Registration::Open,
            RegistrationMode::Token => engine::Registration::Token,
            RegistrationMode::Closed => engine::Registration::Closed,
        },
        default_room_version: configuration.rooms_default_version.clone(),
        access_token_lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
        password_hashing: match configuration.accounts_password_hashing {
            PasswordHashing::Strong => engine::PasswordHashing::Strong,
            PasswordHashing::Cheap => engine::PasswordHashing::Cheap,
        },
        federation_device_names: configuration.federation_device_names,
        partial_state_joins: configuration.federation_partial_state_joins,
        presence: configuration.presence_enabled,
        accounts: engine::AccountSettings {
            password_characters_min: configuration.accounts_password_characters_min.into(),
            guests: configuration.registration_guests,
            login_tokens: configuration.accounts_login_tokens,
            mail: mail(configuration),
            jwt: jwt(configuration),
            turn: turn(configuration),
            identity_servers: configuration.accounts_identity_servers.0.clone(),
        },
        server_notices_user: configuration.server_notices_user.as_ref().map(|localpart| localpart.0.clone()),
        media,
    }
}

fn hidden(secret: &Secret) -> Hidden {
    Hidden(secret.reveal().to_owned())
}

fn mail(configuration: &Configuration) -> Option<engine::MailSettings> {
    let server_name = &configuration.server_name;
    let (security, usual_port) = match configuration.mail_security {
        MailSecurity::Tls => (engine::MailSecurity::Tls, 465),
        MailSecurity::StartTls => (engine::MailSecurity::StartTls, 587),
        MailSecurity::None => (engine::MailSecurity::None, 25),
    };
    let base_url = configuration.well_known_client_base_url.as_ref().map(|address| address.0.clone());
    Some(engine::MailSettings {
        host: configuration.mail_host.clone()?,
        port: configuration.mail_port.unwrap_or(usual_port),
        security,
        credentials: configuration.mail_user.clone().zip(configuration.mail_password.as_ref().map(hidden)),
        from: configuration.mail_from.clone().unwrap_or_else(|| format!("nudge@{}", server_name.host())),
        link_base_url: base_url.unwrap_or_else(|| format!("https://{server_name}")),
    })
}

fn jwt(configuration: &Configuration) -> Option<engine::JwtSettings> {
    Some(engine::JwtSettings {
        secret: hidden(configuration.jwt_secret.as_ref()?),
        algorithm: match configuration.jwt_algorithm {
            JwtAlgorithm::Hs256 => engine::JwtAlgorithm::Hs256,
            JwtAlgorithm::Hs384 => engine::JwtAlgorithm::Hs384,
            JwtAlgorithm::Hs512 => engine::JwtAlgorithm::Hs512,
        },
        issuer: configuration.jwt_issuer.clone(),
        audience: configuration.jwt_audience.clone(),
    })
}

fn turn(configuration: &Configuration) -> Option<engine::TurnSettings> {
    let uris = configuration.turn_uris.0.clone();
    let password = || configuration.turn_user.clone().zip(configuration.turn_password.as_ref());
    let access = match &configuration.turn_shared_secret {
        Some(secret) => engine::TurnAccess::SharedSecret(hidden(secret)),
        None => password().map(|(user, password)| engine::TurnAccess::Password(user, hidden(password)))?,
    };
    let lifetime_ms = u64::try_from(configuration.turn_lifetime.0.as_millis()).unwrap_or(u64::MAX);
    (!uris.is_empty()).then_some(engine::TurnSettings { uris, access, lifetime_ms })
}

/// What the operator chose about the door for clients.
pub(crate) fn client_options(
    configuration: &Configuration,
    well_known_base_url: Option<String>,
) -> client_api::Options {
    let terms = configuration.registration_terms_url.as_ref().map(|url| client_api::Terms {
        name: configuration.registration_terms_name.clone(),
        url: url.0.clone(),
        version: configuration.registration_terms_version.clone(),
    });
    client_api::Options {
        rate_limits: configuration.rate_limits_enabled,
        well_known_base_url,
        rate_limits_exempt: configuration.rate_limits_exempt_users.0.clone(),
        terms,
        registration_requires_email: configuration.registration_require_email,
        directory_for_everybody: configuration.rooms_directory_for_everybody,
        support: client_api::Support {
            email: configuration.well_known_support_email.clone(),
            matrix_id: configuration.well_known_support_matrix_id.clone(),
            page: configuration.well_known_support_page.as_ref().map(|page| page.0.clone()),
        },
    }
}

/// An address that others can connect to, for what is printed: nobody connects to `0.0.0.0`.
pub(crate) fn reachable(address: std::net::SocketAddr) -> std::net::SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (ip, address.port()).into()
}
