//! A room of real, signed events, of any version, with users on several servers.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

use homeserver_rules::{
    Pdu, RoomSnapshot,
    event::{Draft, ServerKey, build, build::LegacyParts},
    room::{
        EventsById, StateMap,
        authorise::{NotAllowed, check_auth_events, check_current_state, deciding_keys, select_auth_events},
        create::{NewRoom, Preset, first_events},
        send::{Circumstances, Intent, SendError, accept, keys_for, make},
    },
};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomVersionId, UInt,
    events::StateEventType,
    signatures::{PublicKeyMap, PublicKeySet},
};
use serde_json::{Value, json};

/// Who creates every room.
pub(crate) const ALICE: &str = "@alice:a.test";
/// A user of another server.
pub(crate) const BOB: &str = "@bob:b.test";
/// A user of a third server.
pub(crate) const CAROL: &str = "@carol:c.test";
/// A user of Alice's server.
pub(crate) const DAVE: &str = "@dave:a.test";

const DEFAULT_ROOM_ID: &str = "!fixture:a.test";
const SERVERS: [&str; 3] = ["a.test", "b.test", "c.test"];

/// A room, and every event that was ever made in it.
pub(crate) struct RoomFixture {
    /// The room as it is.
    pub(crate) room: RoomSnapshot,
    /// All events, also those that were only built.
    pub(crate) events: EventsById,
    keys: HashMap<&'static str, ServerKey>,
    now: Cell<u64>,
}

/// All versions that the library has rules for.
pub(crate) fn versions() -> impl Iterator<Item = RoomVersionId> {
    (1..=12).map(version)
}

pub(crate) fn version(number: u8) -> RoomVersionId {
    RoomVersionId::try_from(number.to_string()).unwrap()
}

/// Rooms of these versions: public, created by Alice, with Bob in it.
pub(crate) fn rooms(numbers: RangeInclusive<u8>) -> impl Iterator<Item = RoomFixture> {
    numbers.map(|number| {
        let mut room = RoomFixture::new(version(number));
        room.join(&[BOB]);
        room
    })
}

pub(crate) fn user(id: &str) -> OwnedUserId {
    id.try_into().unwrap()
}

pub(crate) fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

/// The key of a server, the same in every test.
pub(crate) fn server_key(server: &str) -> ServerKey {
    let seed: [u8; 32] = std::array::from_fn(|index| server.as_bytes()[0].wrapping_add(index as u8));
    ServerKey::from_seed(server.try_into().unwrap(), "fixture", &seed).unwrap()
}

/// The public keys of all servers, as the library takes them.
pub(crate) fn public_keys() -> PublicKeyMap {
    let keys = SERVERS.iter().map(|server| {
        let key = server_key(server);
        let set = PublicKeySet::from([(key.key_id().to_string(), ruma::serde::Base64::new(key.public_key().to_vec()))]);
        ((*server).to_owned(), set)
    });
    keys.collect()
}

/// What a creator wants who wants nothing special.
pub(crate) fn new_room(version: RoomVersionId) -> NewRoom {
    NewRoom {
        version,
        creator: user(ALICE),
        preset: Preset::PublicChat,
        alias: None,
        name: None,
        topic: None,
        initial_state: Vec::new(),
        creation_content: CanonicalJsonObject::new(),
        power_level_content_override: Some(CanonicalJsonObject::from([(
            "invite".to_owned(),
            ruma::Int::from(0).into(),
        )])),
        invite: Vec::new(),
        member_content: CanonicalJsonObject::new(),
    }
}

impl RoomFixture {
    /// A public room that Alice created.
    pub(crate) fn new(version: RoomVersionId) -> Self {
        Self::of(&new_room(version))
    }

    /// A room with these first events.
    pub(crate) fn of(new_room: &NewRoom) -> Self {
        let rules = new_room.version.rules().unwrap();
        Self::begin(DEFAULT_ROOM_ID, new_room, first_events(new_room, &rules).unwrap())
    }

    /// The same with another room id, for versions where the creator chooses one.
    pub(crate) fn named(room_id: &str, new_room: &NewRoom) -> Self {
        let rules = new_room.version.rules().unwrap();
        Self::begin(room_id, new_room, first_events(new_room, &rules).unwrap())
    }

    /// A room that got no further than its creation and the creator's join.
    pub(crate) fn without_power_levels(version: RoomVersionId) -> Self {
        Self::with_creation_content(version, json!({}))
    }

    /// The same with further keys in the create event.
    pub(crate) fn with_creation_content(version: RoomVersionId, content: Value) -> Self {
        let new_room = NewRoom { creation_content: object(content), ..new_room(version) };
        let mut events = first_events(&new_room, &new_room.version.rules().unwrap()).unwrap();
        events.truncate(2);
        Self::begin(DEFAULT_ROOM_ID, &new_room, events)
    }

    fn begin(room_id: &str, new_room: &NewRoom, intents: Vec<Intent>) -> Self {
        let rules = new_room.version.rules().unwrap();
        let room_id = room_id.try_into().unwrap();
        let mut fixture = Self {
            room: RoomSnapshot::empty(room_id, new_room.version.clone(), rules),
            events: EventsById::new(),
            keys: SERVERS.iter().map(|server| (*server, server_key(server))).collect(),
            now: Cell::new(1_000),
        };
        for intent in intents {
            let pdu = fixture.make(intent).unwrap();
            fixture.room.room_id.clone_from(&pdu.room_id);
            fixture.accept(&pdu);
        }
        fixture
    }

    /// A moment later than all before.
    pub(crate) fn tick(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    fn key_of(&self, sender: &str) -> &ServerKey {
        &self.keys[user(sender).server_name().as_str()]
    }

    /// Makes the event of an intent, if it is allowed.
    pub(crate) fn make(&self, intent: Intent) -> Result<Arc<Pdu>, SendError> {
        let now = self.tick();
        let circumstances = Circumstances {
            key: self.key_of(intent.sender.as_str()),
            now: timestamp(now),
            id_seed: format!("seed{now}"),
            events: &self.events,
        };
        make(&self.room, intent, &circumstances)
    }

    /// Makes an event as a user's server would, if the user may. Does not put it into the room.
    pub(crate) fn try_make(
        &self,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<Arc<Pdu>, SendError> {
        self.make(Intent {
            sender: user(sender),
            event_type: event_type.into(),
            state_key: state_key.map(ToOwned::to_owned),
            content: object(content),
            redacts: None,
            sticky_duration_ms: None,
            origin_server_ts: None,
        })
    }

    /// Makes an event and puts it at the head of the room.
    pub(crate) fn send(&mut self, sender: &str, event_type: &str, state_key: Option<&str>, content: Value) -> Arc<Pdu> {
        let pdu = self.try_make(sender, event_type, state_key, content).unwrap();
        self.accept(&pdu);
        pdu
    }

    /// Sets a state event with an empty state key, as Alice.
    pub(crate) fn set(&mut self, event_type: &str, content: Value) -> Arc<Pdu> {
        self.send(ALICE, event_type, Some(""), content)
    }

    /// Changes a membership.
    pub(crate) fn member(&mut self, sender: &str, target: &str, membership: &str) -> Arc<Pdu> {
        self.send(sender, "m.room.member", Some(target), json!({ "membership": membership }))
    }

    /// Lets users into the room, which must be public.
    pub(crate) fn join(&mut self, users: &[&str]) {
        for user in users {
            self.member(user, user, "join");
        }
    }

    /// Sends a text message.
    pub(crate) fn message(&mut self, sender: &str, body: &str) -> Arc<Pdu> {
        self.send(sender, "m.room.message", None, json!({ "msgtype": "m.text", "body": body }))
    }

    /// Puts an event at the head of the room, whether it is allowed or not.
    pub(crate) fn accept(&mut self, pdu: &Arc<Pdu>) {
        self.events.insert(pdu.event_id.clone(), pdu.clone());
        self.room = accept(&self.room, pdu, &self.events).room.unwrap();
    }

    /// A draft on the head of the room with the right auth events, for tests to spoil.
    pub(crate) fn draft(&self, sender: &str, event_type: &str, state_key: Option<&str>, content: Value) -> Draft {
        let intent = Intent {
            sender: user(sender),
            event_type: event_type.into(),
            state_key: state_key.map(ToOwned::to_owned),
            content: object(content),
            redacts: None,
            sticky_duration_ms: None,
            origin_server_ts: None,
        };
        let keys = keys_for(&self.room, &intent).unwrap_or_else(|_| {
            let plain = serde_json::value::to_raw_value(&json!({})).unwrap();
            let rules = &self.room.rules.authorization;
            deciding_keys(rules, &"m.room.message".into(), &intent.sender, None, &plain).unwrap()
        });
        let now = self.tick();
        Draft {
            room_id: Some(self.room.room_id.clone()),
            sender: intent.sender,
            event_type: intent.event_type,
            state_key: intent.state_key,
            content: intent.content,
            redacts: None,
            prev_events: self.room.forward_extremities.iter().map(|(event_id, _)| event_id.clone()).collect(),
            auth_events: select_auth_events(&self.room, &keys),
            depth: self.room.forward_extremities.iter().map(|(_, depth)| depth + 1).max().unwrap_or(1),
            origin_server_ts: timestamp(now),
            legacy: Some(LegacyParts { id_seed: format!("seed{now}"), reference_hashes: BTreeMap::new() }),
        }
    }

    /// Signs a draft, allowed or not.
    pub(crate) fn build(&self, draft: Draft) -> Arc<Pdu> {
        let key = self.key_of(draft.sender.as_str());
        Arc::new(build(draft, &self.room.rules, key).unwrap())
    }

    /// Signs a draft and remembers the event, without putting it into the room.
    pub(crate) fn craft(&mut self, draft: Draft) -> Arc<Pdu> {
        let pdu = self.build(draft);
        self.events.insert(pdu.event_id.clone(), pdu.clone());
        pdu
    }

    /// What the authorisation rules say: by the auth events that the event names, and by the state of the room.
    pub(crate) fn verdict(&self, draft: Draft) -> Result<(), NotAllowed> {
        let pdu = self.build(draft);
        check_auth_events(&self.room.rules.authorization, &pdu, &self.events)?;
        check_current_state(&self.room, &pdu, &self.events)
    }

    /// Asserts that the rules allow an event.
    #[track_caller]
    pub(crate) fn allows(&self, draft: Draft) {
        let what = format!("version {}: {} {:?}", self.room.version, draft.event_type, draft.content);
        assert_eq!(self.verdict(draft), Ok(()), "{what}");
    }

    /// Asserts that the rules refuse an event for a reason that says `reason`.
    #[track_caller]
    pub(crate) fn refuses(&self, draft: Draft, reason: &str) {
        let what = format!("version {}: {} {:?}", self.room.version, draft.event_type, draft.content);
        let said = self.verdict(draft).expect_err(&what).0;
        assert!(said.contains(reason), "{what}: {said}");
    }

    /// The content of a power levels event in which Alice has all power, with these fields replaced.
    pub(crate) fn levels(&self, fields: Value) -> Value {
        let mut content = json!({ "users": {} });
        content.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        if !self.room.rules.authorization.explicitly_privilege_room_creators {
            content["users"][ALICE] = json!(100);
        }
        content
    }

    /// Sets the power levels so.
    pub(crate) fn set_levels(&mut self, fields: Value) -> Arc<Pdu> {
        self.set("m.room.power_levels", self.levels(fields))
    }

    /// The event for a key of the room state.
    pub(crate) fn state(&self, event_type: &str, state_key: &str) -> Option<Arc<Pdu>> {
        let event_type = StateEventType::from(event_type);
        self.events.get(self.room.state_event_id(&event_type, state_key)?).cloned()
    }

    /// The id of the event for a key of the room state.
    pub(crate) fn state_id(&self, event_type: &str, state_key: &str) -> OwnedEventId {
        self.state(event_type, state_key).unwrap().event_id.clone()
    }

    /// The state of the room as state resolution takes it.
    pub(crate) fn state_map(&self) -> StateMap {
        self.room.state_map()
    }
}

pub(crate) fn timestamp(milliseconds: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::new(milliseconds).unwrap())
}
