//! One server of one process: mock clock, seeded chance, no network.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use appservices::{Registration as ServiceFile, Services, ServicesOptions};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, Response, StatusCode},
};
use engine::{AccountSettings, Engine, MediaSettings, PasswordHashing, Registration, Settings};
use futures_util::future::BoxFuture;
use homeserver_client_api::{ClientAddress, Options};
use outbound::{
    CallLimits, EgressOptions, Federation, FederationOptions, Sender, SenderOptions, Transport, TransportError,
    egress::SystemNames,
};
use rules::{
    event::ServerKey,
    world::{Chance, Clock, World},
};
use ruma::{RoomVersionId, ServerName, owned_server_name};
use serde_json::{Value, json};
use storage::{Durability, NewAccount, Storage};
use tower::ServiceExt;

/// The password of all users of these tests.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// How a server is set up.
pub(crate) struct Setup<'a> {
    pub(crate) registration: Registration,
    pub(crate) rate_limits: bool,
    pub(crate) password_hashing: PasswordHashing,
    pub(crate) directory: Option<&'a Path>,
    pub(crate) well_known: Option<&'a str>,
    pub(crate) presence: bool,
    pub(crate) accounts: AccountSettings,
    pub(crate) options: Options,
    pub(crate) media: fn(&mut MediaSettings),
    pub(crate) transport: Option<Arc<dyn Transport>>,
    /// Registration files of application services, to which is delivered.
    pub(crate) services: Vec<String>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            rate_limits: false,
            password_hashing: PasswordHashing::Cheap,
            directory: None,
            well_known: None,
            presence: true,
            accounts: AccountSettings::default(),
            options: Options::default(),
            media: |_| {},
            transport: None,
            services: Vec::new(),
        }
    }
}

/// A server without a socket.
pub(crate) struct TestServer {
    pub(crate) router: Router,
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) media: tempfile::TempDir,
}

fn services(texts: &[String]) -> Services {
    if texts.is_empty() {
        return Services::default();
    }
    let name = ServerName::parse("example.org").unwrap();
    let registrations = texts.iter().map(|text| ServiceFile::parse(text, &name).unwrap()).collect();
    let egress = outbound::Egress::new(EgressOptions::default(), Arc::new(SystemNames::new().unwrap())).unwrap();
    Services::new(registrations, &egress.service_client().unwrap(), ServicesOptions::default())
}

/// A user with one device that is logged in.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) token: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
    pub(crate) bytes: Bytes,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_as(Setup::default()).await
    }

    pub(crate) async fn start_as(setup: Setup<'_>) -> Self {
        let server_name = owned_server_name!("example.org");
        let clock = Arc::new(HandClock(AtomicU64::new(1_700_000_000_000)));
        let world = World { clock: clock.clone(), chance: Arc::new(Seeded(Mutex::new(1))) };
        let url = match setup.directory {
            Some(directory) => format!("sqlite:{}", directory.join("nudge.db").display()),
            None => "sqlite::memory:".to_owned(),
        };
        let options = storage::Options {
            url,
            durability: Durability::Relaxed,
            read_connections: 2,
            server_name: server_name.clone(),
        };
        let storage = Storage::open(&options).await.unwrap();
        let seed = std::array::from_fn(|index| index as u8);
        let federation = Federation::new(FederationOptions {
            key: Arc::new(ServerKey::from_seed(server_name.clone(), "test", &seed).unwrap()),
            storage: storage.clone(),
            transport: setup.transport.unwrap_or_else(|| Arc::new(NoNetwork)),
            world: world.clone(),
            notaries: Vec::new(),
        });
        let sender = Sender::new(federation.clone(), SenderOptions::default());
        let folder = tempfile::tempdir().unwrap();
        let mut media = MediaSettings::in_folder(folder.path());
        (setup.media)(&mut media);
        let settings = Settings {
            media,
            services: services(&setup.services),
            server_name,
            registration: setup.registration,
            default_room_version: RoomVersionId::V11,
            access_token_lifetime_ms: 3_600_000,
            password_hashing: setup.password_hashing,
            federation_device_names: false,
            partial_state_joins: true,
            presence: setup.presence,
            accounts: setup.accounts,
            server_notices_user: Some("notices".to_owned()),
            lists_rooms_to_servers: true,
        };
        let engine = Engine::start(settings, storage, federation, sender, world);
        engine.prepare_services().await.unwrap();
        if !setup.services.is_empty() {
            let engine = engine.clone();
            tokio::spawn(async move { engine.deliver_to_services(std::future::pending()).await });
        }
        let options = Options {
            rate_limits: setup.rate_limits,
            well_known_base_url: setup.well_known.map(ToOwned::to_owned),
            ..setup.options
        };
        let router = homeserver_client_api::router(engine.clone(), options);
        Self { router, engine, clock, media: folder }
    }

    /// Sends any request, from `192.0.2.1` if it does not say otherwise.
    pub(crate) async fn request(&self, mut request: Request<Body>) -> Reply {
        if request.extensions().get::<ClientAddress>().is_none() {
            request.extensions_mut().insert(ClientAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
        }
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: head.status.as_u16(), headers: head.headers, body, text, bytes }
    }

    /// Sends a request with a JSON body.
    pub(crate) async fn send(&self, method: Method, path: &str, token: Option<&str>, body: &Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.request(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Sends a request with a JSON body from another address.
    pub(crate) async fn post_from(&self, address: &str, path: &str, body: &Value) -> Reply {
        let mut request = Request::post(path).body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(ClientAddress(address.parse().unwrap()));
        self.request(request).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, None, &body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None, &Value::Null).await
    }

    /// Registers a user and logs a device in.
    pub(crate) async fn register(&self, name: &str) -> Session {
        let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        user(&self.post("/_matrix/client/v3/register", body).await.ok())
    }

    /// Makes an administrator, and logs a device in.
    pub(crate) async fn administrator(&self) -> Session {
        let user_id: ruma::OwnedUserId = "@admin:example.org".try_into().unwrap();
        let account = NewAccount {
            user_id: user_id.clone(),
            password_hash: None,
            display_name: None,
            created_ts: 0,
            guest: false,
            admin: true,
        };
        self.engine.storage().create_account(account, None).await.unwrap();
        self.engine.change_password(&user_id, PASSWORD, None).await.unwrap();
        self.log_in("@admin:example.org").await
    }

    /// Logs another device of a user in.
    pub(crate) async fn log_in(&self, user_id: &str) -> Session {
        user(&self.post("/_matrix/client/v3/login", login(user_id, PASSWORD)).await.ok())
    }

    pub(crate) async fn post_as(&self, user: &Session, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(&user.token), &body).await
    }

    pub(crate) async fn put_as(&self, user: &Session, path: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, Some(&user.token), &body).await
    }

    pub(crate) async fn get_as(&self, user: &Session, path: &str) -> Reply {
        self.send(Method::GET, path, Some(&user.token), &Value::Null).await
    }

    /// A room by invitation only.
    pub(crate) async fn private_room(&self, creator: &Session) -> String {
        let body = json!({ "preset": "private_chat", "name": "Plans" });
        let reply = self.post_as(creator, "/_matrix/client/v3/createRoom", body).await.ok();
        reply["room_id"].as_str().unwrap().to_owned()
    }

    /// Sends a text message.
    pub(crate) async fn say(&self, user: &Session, room_id: &str, transaction_id: &str, text: &str) -> String {
        let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{transaction_id}");
        let reply = self.put_as(user, &path, json!({ "msgtype": "m.text", "body": text })).await.ok();
        reply["event_id"].as_str().unwrap().to_owned()
    }
}

impl Reply {
    /// The body of a reply that must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK.as_u16(), "{}", self.text);
        self.body
    }

    pub(crate) fn errcode(&self) -> &str {
        self.body["errcode"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, errcode: &str) {
        assert_eq!((self.status, self.errcode()), (status, errcode), "{}", self.text);
    }
}

pub(crate) fn login(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user },
        "password": password,
    })
}

fn user(session: &Value) -> Session {
    let text = |key: &str| session[key].as_str().unwrap().to_owned();
    Session { user_id: text("user_id"), device_id: text("device_id"), token: text("access_token") }
}

/// Fills the `{parameters}` of a path; each value is percent-encoded as a whole.
pub(crate) fn fill(path: &str, values: &HashMap<&str, String>) -> String {
    let segments = path.split('/').map(|segment| {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        name.map_or_else(
            || segment.to_owned(),
            |name| encode(values.get(name).unwrap_or_else(|| panic!("no value for {name}"))),
        )
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Percent-encodes all but letters and digits.
pub(crate) fn encode(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// A clock that is turned by hand.
pub(crate) struct HandClock(pub(crate) AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The "splitmix64" generator: the same numbers in each run.
struct Seeded(Mutex<u64>);

impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut number = *state;
            number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            number ^= number >> 31;
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

struct NoNetwork;

impl Transport for NoNetwork {
    fn send<'a>(
        &'a self,
        _: &'a ServerName,
        _: Request<Bytes>,
        _: CallLimits,
    ) -> BoxFuture<'a, Result<Response<Bytes>, TransportError>> {
        Box::pin(async { Err(TransportError::Unreachable("there is no network in this test".to_owned())) })
    }
}
