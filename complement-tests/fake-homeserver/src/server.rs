//! One fake homeserver: its name, its keys, its rooms, and how it asks others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use http::Method;
use rules::{
    Pdu,
    event::{Draft, ServerKey, build, read_pdu},
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomId, ServerName, UserId, room_version_rules::RoomVersionRules,
};
use serde_json::{Value, json, value::RawValue};

use crate::{Network, Request, Response, Room, SignedRequest, answer, body_of, event};

/// What a test has a fake answer; `None` leaves the request to the next hook, and to the fake itself in the end.
pub type Hook = Arc<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

/// A homeserver made of cardboard. Clones are the same server.
#[derive(Clone)]
pub struct FakeHomeserver {
    inner: Arc<Inner>,
}

struct Inner {
    name: OwnedServerName,
    network: Network,
    counter: AtomicU64,
    data: Mutex<Data>,
}

#[derive(Default)]
struct Data {
    keys: Vec<Arc<ServerKey>>,
    rooms: HashMap<OwnedRoomId, Room>,
    aliases: HashMap<OwnedRoomAliasId, OwnedRoomId>,
    profiles: HashMap<OwnedUserId, Value>,
    invites: Vec<Value>,
    transactions: Vec<Value>,
    hooks: Vec<Hook>,
    omits_members: bool,
}

impl FakeHomeserver {
    pub(crate) fn new(name: OwnedServerName, network: Network) -> Self {
        let key = ServerKey::from_seed(name.clone(), "fake", &seed(&name, 0)).expect("the seed varies");
        let data = Data { keys: vec![Arc::new(key)], ..Data::default() };
        Self { inner: Arc::new(Inner { name, network, counter: AtomicU64::new(1), data: Mutex::new(data) }) }
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.inner.name
    }

    /// A user of this server.
    pub fn user(&self, localpart: &str) -> OwnedUserId {
        UserId::parse(format!("@{localpart}:{}", self.name())).expect("the localpart is one")
    }

    /// The key it signs with.
    pub fn key(&self) -> Arc<ServerKey> {
        let data = self.data();
        Arc::clone(data.keys.last().expect("there is always a key"))
    }

    /// Signs with a new key from now on, published under the given name; the old ones are listed as such no more.
    pub fn change_key(&self, name: &str) {
        let number = self.next_number();
        let key = ServerKey::from_seed(self.inner.name.clone(), name, &seed(self.name(), number));
        self.data().keys = vec![Arc::new(key.expect("the name is one of a key"))];
    }

    /// What time it is.
    pub fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.inner.network.clock().now()
    }

    /// The network it is in.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// Answers requests by the hook first: the newest hook is asked first.
    pub fn on_request(&self, hook: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) {
        self.data().hooks.insert(0, Arc::new(hook));
    }

    /// Answers each request whose path starts with the given text with what the function makes of it.
    pub fn on(&self, path: &'static str, answer: impl Fn(&Request) -> Response + Send + Sync + 'static) {
        self.on_request(move |request| request.uri().path().starts_with(path).then(|| answer(request)));
    }

    /// Changes the JSON that the fake would have answered to requests whose path starts with the given text.
    pub fn on_answer(&self, path: &'static str, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        let this = self.clone();
        self.on(path, move |request| {
            let honest = answer::answer(&this, request);
            let mut body = body_of(&honest);
            change(&mut body);
            crate::json(honest.status().as_u16(), &body)
        });
    }

    /// Forgets all hooks.
    pub fn behave(&self) {
        self.data().hooks.clear();
    }

    /// From now on it leaves members out of the state that it gives to those who join and ask for that.
    pub fn omit_members(&self) {
        self.data().omits_members = true;
    }

    pub(crate) fn omits_members(&self) -> bool {
        self.data().omits_members
    }

    /// Serves a room.
    pub fn serve_room(&self, room: Room) {
        self.data().rooms.insert(room.id.clone(), room);
    }

    /// A room that it serves.
    pub fn room(&self, room_id: &RoomId) -> Option<Room> {
        self.data().rooms.get(room_id).cloned()
    }

    /// All rooms that it serves.
    pub fn rooms(&self) -> Vec<Room> {
        self.data().rooms.values().cloned().collect()
    }

    /// Serves an alias.
    pub fn serve_alias(&self, alias: OwnedRoomAliasId, room: &Room) {
        self.data().aliases.insert(alias, room.id.clone());
    }

    /// Serves a profile: an object with `displayname` and `avatar_url`.
    pub fn serve_profile(&self, user_id: OwnedUserId, profile: Value) {
        self.data().profiles.insert(user_id, profile);
    }

    /// The events of the invites that it was sent.
    pub fn invites(&self) -> Vec<Value> {
        self.data().invites.clone()
    }

    /// The transactions that it was sent.
    pub fn transactions(&self) -> Vec<Value> {
        self.data().transactions.clone()
    }

    /// The PDUs of all transactions that it was sent.
    pub fn received_pdus(&self) -> Vec<Value> {
        let transactions = self.transactions();
        transactions.iter().flat_map(|body| body["pdus"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Builds and signs an event by the book.
    pub fn build(&self, draft: Draft, rules: &RoomVersionRules) -> Pdu {
        build(draft, rules, &self.key()).expect("the draft is one of this server's")
    }

    /// Hashes and signs an object anew, whatever it says.
    pub fn seal(&self, object: CanonicalJsonObject, rules: &RoomVersionRules) -> CanonicalJsonObject {
        event::seal(object, rules, &self.key())
    }

    /// Adds its signature to an event of another server.
    pub fn countersign(&self, object: &mut CanonicalJsonObject, rules: &RoomVersionRules) {
        event::countersign(object, rules, &self.key());
    }

    /// A request as this server would sign it.
    pub fn prepare(
        &self,
        destination: &ServerName,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> SignedRequest {
        SignedRequest {
            origin: self.inner.name.clone(),
            destination: destination.to_owned(),
            method,
            target: target.to_owned(),
            body: body.map(ToString::to_string),
        }
    }

    /// Asks another server.
    pub async fn ask(&self, destination: &ServerName, method: Method, target: &str, body: Option<&Value>) -> Response {
        self.send(self.prepare(destination, method, target, body)).await
    }

    /// `GET`s something of another server.
    pub async fn get(&self, destination: &ServerName, target: &str) -> Response {
        self.ask(destination, Method::GET, target, None).await
    }

    /// Signs a request and sends it.
    pub async fn send(&self, request: SignedRequest) -> Response {
        let destination = request.destination.clone();
        let request = request.into_request(&self.key());
        self.inner.network.deliver(&destination, request).await.expect("the server can be reached")
    }

    /// Sends a transaction under a new id.
    pub async fn send_transaction(&self, destination: &ServerName, pdus: &[Box<RawValue>], edus: &[Value]) -> Response {
        let id = format!("t{}", self.next_number());
        self.send_transaction_as(destination, &id, pdus, edus).await
    }

    /// Sends a transaction under the given id. The PDUs are sent as they stand.
    pub async fn send_transaction_as(
        &self,
        destination: &ServerName,
        transaction_id: &str,
        pdus: &[Box<RawValue>],
        edus: &[Value],
    ) -> Response {
        let pdus: Vec<&str> = pdus.iter().map(|pdu| pdu.get()).collect();
        let body = format!(
            r#"{{"origin":"{}","origin_server_ts":{},"pdus":[{}],"edus":{}}}"#,
            self.name(),
            self.now().get(),
            pdus.join(","),
            Value::from(edus)
        );
        let target = format!("/_matrix/federation/v1/send/{transaction_id}");
        let mut request = self.prepare(destination, Method::PUT, &target, None);
        request.body = Some(body);
        self.send(request).await
    }

    /// Sends events that were built by the book.
    pub async fn send_pdus(&self, destination: &ServerName, pdus: &[&Pdu]) -> Response {
        let pdus: Vec<_> = pdus.iter().map(|pdu| pdu.to_raw_json()).collect();
        self.send_transaction(destination, &pdus, &[]).await
    }

    /// Invites a user of another server to a room, by the second version of the endpoint.
    pub async fn invite(&self, destination: &ServerName, room: &Room, sender: &UserId, target: &UserId) -> Response {
        let content = json!({"membership": "invite"});
        let draft = room.draft(self, sender, "m.room.member", Some(target.as_str()), content);
        let invite = self.build(draft, &room.rules);
        let response = self.send_invite(destination, room, &invite, &self.invite_state(room)).await;
        if response.status().is_success() {
            room.accept(invite);
        }
        response
    }

    /// Sends an invite event that may be anything.
    pub async fn send_invite(&self, destination: &ServerName, room: &Room, event: &Pdu, state: &Value) -> Response {
        let body = json!({"room_version": room.version, "event": event.to_raw_json(), "invite_room_state": state});
        let target =
            format!("/_matrix/federation/v2/invite/{}/{}", encode(room.id.as_str()), encode(event.event_id.as_str()));
        self.ask(destination, Method::PUT, &target, Some(&body)).await
    }

    /// The state that goes along with an invite: full PDUs, as the spec has it since version 1.16.
    pub fn invite_state(&self, room: &Room) -> Value {
        let keys = ["m.room.create", "m.room.join_rules", "m.room.name", "m.room.encryption"];
        let events = keys.iter().filter_map(|event_type| room.state_event(event_type, ""));
        events.map(|pdu| serde_json::from_str::<Value>(&pdu.json).unwrap_or_default()).collect()
    }

    /// Joins a room through another server, and serves it from then on.
    pub async fn join(&self, destination: &ServerName, room_id: &RoomId, user_id: &UserId) -> Result<Room, Response> {
        let versions = "ver=3&ver=4&ver=5&ver=6&ver=7&ver=8&ver=9&ver=10&ver=11&ver=12";
        let (room_path, user_path) = (encode(room_id.as_str()), encode(user_id.as_str()));
        let target = format!("/_matrix/federation/v1/make_join/{room_path}/{user_path}?{versions}");
        let made = self.get(destination, &target).await;
        if !made.status().is_success() {
            return Err(made);
        }
        let made = body_of(&made);
        let version = ruma::RoomVersionId::try_from(made["room_version"].as_str().unwrap_or("1")).expect("a version");
        let rules = version.rules().expect("one of those that were offered");
        let template = serde_json::from_value(made["event"].clone()).expect("the template is an object");
        let join = self.seal(template, &rules);
        let (join, _) = read_pdu(&event::text_of(&join), &rules).expect("the template makes an event");
        let target = format!("/_matrix/federation/v2/send_join/{room_path}/{}", encode(join.event_id.as_str()));
        let body = serde_json::from_str(&join.json).expect("an event is JSON");
        let sent = self.ask(destination, Method::PUT, &target, Some(&body)).await;
        if !sent.status().is_success() {
            return Err(sent);
        }
        let sent = body_of(&sent);
        let read = |field: &str| answer::read_events(&sent[field], &rules);
        let room = Room::from_state(room_id.to_owned(), version, read("state"), read("auth_chain"));
        room.accept(join);
        self.serve_room(room.clone());
        Ok(room)
    }

    /// What it answers to a request, whichever way that came.
    pub fn answer(&self, request: &Request) -> Response {
        let hooks = self.data().hooks.clone();
        hooks.iter().find_map(|hook| hook(request)).unwrap_or_else(|| answer::answer(self, request))
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.inner.counter.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_room_id(&self) -> OwnedRoomId {
        let id = format!("!room{}:{}", self.next_number(), self.name());
        id.try_into().expect("a room id")
    }

    pub(crate) fn keys(&self) -> Vec<Arc<ServerKey>> {
        self.data().keys.clone()
    }

    pub(crate) fn alias(&self, alias: &str) -> Option<OwnedRoomId> {
        let data = self.data();
        data.aliases.iter().find(|(known, _)| known.as_str() == alias).map(|(_, room_id)| room_id.clone())
    }

    pub(crate) fn profile(&self, user_id: &str) -> Option<Value> {
        let data = self.data();
        data.profiles.iter().find(|(known, _)| known.as_str() == user_id).map(|(_, profile)| profile.clone())
    }

    pub(crate) fn remember_invite(&self, event: Value) {
        self.data().invites.push(event);
    }

    pub(crate) fn remember_transaction(&self, transaction: Value) {
        self.data().transactions.push(transaction);
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.inner.data.lock().expect("no test panics while it holds a fake")
    }
}

/// A path segment.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn seed(name: &ServerName, number: u64) -> [u8; 32] {
    let mut state = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ number, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}
