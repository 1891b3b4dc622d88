//! What a fake homeserver answers when no test tells it otherwise.

use http::Method;
use rules::{Pdu, event::read_pdu};
use ruma::{
    CanonicalJsonObject, OwnedEventId, RoomVersionId, events::StateEventType, room_version_rules::RoomVersionRules,
};
use serde_json::{Value, json};

use crate::{FakeHomeserver, Request, Response, Room, event, json as reply};

/// How long keys are valid, in milliseconds: a day.
const KEY_VALIDITY_MS: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn answer(fake: &FakeHomeserver, request: &Request) -> Response {
    let path = request.uri().path();
    let segments: Vec<String> = path.split('/').skip(1).map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let found = match (request.method(), &segments[..]) {
        (&Method::GET, ["_matrix", "key", "v2", "server", ..]) => Some(keys(fake)),
        (&Method::GET, ["_matrix", "federation", "v1", "version"]) => Some(json!({"server": {"name": "Cardboard"}})),
        (method, ["_matrix", "federation", version, endpoint, arguments @ ..]) => {
            let call = Call { fake, version, arguments, query: query(request), body };
            call.answer(method, endpoint)
        }
        _ => return reply(404, &json!({"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})),
    };
    match found {
        Some(body) => reply(200, &body),
        None => reply(404, &json!({"errcode": "M_NOT_FOUND", "error": "Not found"})),
    }
}

struct Call<'a> {
    fake: &'a FakeHomeserver,
    version: &'a str,
    arguments: &'a [&'a str],
    query: Vec<(String, String)>,
    body: Value,
}

impl Call<'_> {
    fn answer(&self, method: &Method, endpoint: &str) -> Option<Value> {
        match (method.as_str(), endpoint, self.arguments) {
            ("PUT", "send", [_]) => Some(self.transaction()),
            ("GET", "make_join", [_, user_id]) => self.template(user_id, "join"),
            ("GET", "make_knock", [_, user_id]) => self.template(user_id, "knock"),
            ("GET", "make_leave", [_, user_id]) => self.template(user_id, "leave"),
            ("PUT", "send_join", _) => self.send_join(),
            ("PUT", "send_knock", _) => self.send_knock(),
            ("PUT", "send_leave", _) => self.send_leave(),
            ("PUT", "invite", _) => self.invite(),
            ("GET", "backfill", _) => self.backfill(),
            ("POST", "get_missing_events", _) => self.missing_events(),
            ("GET", "event", [event_id]) => self.event(event_id),
            ("GET", "state", _) => self.state(),
            ("GET", "state_ids", _) => self.state_ids(),
            ("GET", "event_auth", [_, event_id]) => self.event_auth(event_id),
            ("GET", "query", ["profile"]) => self.profile(),
            ("GET", "query", ["directory"]) => self.directory(),
            _ => None,
        }
    }

    fn transaction(&self) -> Value {
        self.fake.remember_transaction(self.body.clone());
        for pdu in self.body["pdus"].as_array().into_iter().flatten() {
            let room = self.fake.rooms().into_iter().find(|room| pdu["room_id"] == room.id.as_str());
            let Some(room) = room else { continue };
            if let Ok((pdu, _)) = read_pdu(&pdu.to_string(), &room.rules)
                && room.event(&pdu.event_id).is_none()
            {
                room.accept(pdu);
            }
        }
        json!({"pdus": {}})
    }

    fn template(&self, user_id: &str, membership: &str) -> Option<Value> {
        let room = self.room()?;
        let user_id = ruma::UserId::parse(user_id).ok()?;
        let mut content = json!({"membership": membership});
        let join_rules = room.state_event("m.room.join_rules", "");
        let rule = join_rules.and_then(|pdu| pdu.content_str("join_rule"));
        let restricted = rule.is_some_and(|rule| rule.ends_with("restricted"));
        if restricted && membership == "join" {
            let own = room.joined_users().into_iter().find(|user_id| user_id.server_name() == self.fake.name())?;
            content["join_authorised_via_users_server"] = own.as_str().into();
        }
        let draft = room.draft(self.fake, &user_id, "m.room.member", Some(user_id.as_str()), content);
        let event = json!({
            "type": "m.room.member",
            "room_id": room.id,
            "sender": user_id,
            "state_key": user_id,
            "content": draft.content,
            "prev_events": draft.prev_events,
            "auth_events": draft.auth_events,
            "depth": draft.depth,
            "origin_server_ts": draft.origin_server_ts,
        });
        Some(json!({"room_version": room.version, "event": event}))
    }

    fn send_join(&self) -> Option<Value> {
        let room = self.room()?;
        let mut object: CanonicalJsonObject = serde_json::from_value(self.body.clone()).ok()?;
        let authoriser = self.body["content"]["join_authorised_via_users_server"].as_str();
        if authoriser.is_some_and(|user_id| user_id.ends_with(&format!(":{}", self.fake.name()))) {
            self.fake.countersign(&mut object, &room.rules);
        }
        let state = room.state();
        let servers = room.servers();
        let (join, object) = read_pdu(&event::text_of(&object), &room.rules).ok()?;
        let omits = self.fake.omits_members() && self.all("omit_members").any(|omit| omit == "true");
        let is_told = |(event_type, _): &&(StateEventType, String)| !omits || *event_type != StateEventType::RoomMember;
        let told: Vec<OwnedEventId> = state.keys().filter(is_told).map(|key| state[key].clone()).collect();
        // The join is not in the room yet.
        let mut auth_chain = room.auth_chain(told.iter().chain(&join.auth_events));
        auth_chain.extend(room.events(&join.auth_events));
        auth_chain.sort_by(|a, b| (a.depth, &a.event_id).cmp(&(b.depth, &b.event_id)));
        auth_chain.dedup_by(|a, b| a.event_id == b.event_id);
        room.accept(join);
        let reply = json!({
            "origin": self.fake.name(),
            "event": object,
            "state": events(&room.events(&told)),
            "auth_chain": events(&auth_chain),
            "servers_in_room": servers,
            "members_omitted": omits,
        });
        Some(if self.version == "v1" { json!([200, reply]) } else { reply })
    }

    fn send_knock(&self) -> Option<Value> {
        let room = self.room()?;
        let (knock, _) = read_pdu(&self.body.to_string(), &room.rules).ok()?;
        room.accept(knock);
        Some(json!({"knock_room_state": self.fake.invite_state(&room)}))
    }

    fn send_leave(&self) -> Option<Value> {
        let room = self.room()?;
        let (leave, _) = read_pdu(&self.body.to_string(), &room.rules).ok()?;
        room.accept(leave);
        Some(if self.version == "v1" { json!([200, {}]) } else { json!({}) })
    }

    fn invite(&self) -> Option<Value> {
        let version = RoomVersionId::try_from(self.body["room_version"].as_str().unwrap_or("1")).ok()?;
        let event = if self.version == "v1" { &self.body } else { &self.body["event"] };
        self.fake.remember_invite(event.clone());
        let mut object: CanonicalJsonObject = serde_json::from_value(event.clone()).ok()?;
        self.fake.countersign(&mut object, &version.rules()?);
        let reply = json!({"event": object});
        Some(if self.version == "v1" { json!([200, reply]) } else { reply })
    }

    fn backfill(&self) -> Option<Value> {
        let room = self.room()?;
        let from: Vec<OwnedEventId> = self.all("v").filter_map(|id| id.try_into().ok()).collect();
        let limit = self.all("limit").next().and_then(|limit| limit.parse().ok()).unwrap_or(10);
        Some(self.with_origin("pdus", &events(&room.history(&from, &[], limit))))
    }

    fn missing_events(&self) -> Option<Value> {
        let room = self.room()?;
        let ids =
            |field: &str| -> Vec<OwnedEventId> { serde_json::from_value(self.body[field].clone()).unwrap_or_default() };
        let (earliest, latest) = (ids("earliest_events"), ids("latest_events"));
        let limit = self.body["limit"].as_u64().unwrap_or(10) as usize;
        let mut found = room.history(&latest, &earliest, limit + latest.len());
        found.retain(|pdu| !latest.contains(&pdu.event_id));
        found.truncate(limit);
        found.reverse();
        Some(json!({"events": events(&found)}))
    }

    fn event(&self, event_id: &str) -> Option<Value> {
        let event_id = OwnedEventId::try_from(event_id).ok()?;
        let pdu = self.fake.rooms().iter().find_map(|room| room.event(&event_id))?;
        Some(self.with_origin("pdus", &events(&[pdu])))
    }

    fn state(&self) -> Option<Value> {
        let room = self.room()?;
        let state = self.state_asked_for(&room)?;
        let (pdus, auth_chain) = (room.events(&state), room.auth_chain(&state));
        Some(json!({"pdus": events(&pdus), "auth_chain": events(&auth_chain)}))
    }

    fn state_ids(&self) -> Option<Value> {
        let room = self.room()?;
        let state = self.state_asked_for(&room)?;
        let auth_chain: Vec<_> = room.auth_chain(&state).iter().map(|pdu| pdu.event_id.clone()).collect();
        Some(json!({"pdu_ids": state, "auth_chain_ids": auth_chain}))
    }

    fn state_asked_for(&self, room: &Room) -> Option<Vec<OwnedEventId>> {
        let event_id = OwnedEventId::try_from(self.all("event_id").next()?).ok()?;
        Some(room.state_before(&event_id)?.into_values().collect())
    }

    fn event_auth(&self, event_id: &str) -> Option<Value> {
        let room = self.room()?;
        let event_id = OwnedEventId::try_from(event_id).ok()?;
        room.event(&event_id)?;
        Some(json!({"auth_chain": events(&room.auth_chain([&event_id]))}))
    }

    fn profile(&self) -> Option<Value> {
        let profile = self.fake.profile(self.all("user_id").next()?)?;
        Some(match self.all("field").next() {
            Some(field) => json!({field: profile[field]}),
            None => profile,
        })
    }

    fn directory(&self) -> Option<Value> {
        let room_id = self.fake.alias(self.all("room_alias").next()?)?;
        Some(json!({"room_id": room_id, "servers": [self.fake.name()]}))
    }

    fn room(&self) -> Option<Room> {
        self.fake.room(self.arguments.first()?.to_owned().try_into().ok()?)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn with_origin(&self, field: &str, pdus: &Value) -> Value {
        json!({"origin": self.fake.name(), "origin_server_ts": self.fake.now(), field: pdus})
    }
}

fn keys(fake: &FakeHomeserver) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let keys = fake.keys();
    let listed = keys.iter().map(|key| {
        let public_key = STANDARD_NO_PAD.encode(key.public_key());
        (key.key_id().to_string(), json!({"key": public_key}))
    });
    let document = json!({
        "server_name": fake.name(),
        "verify_keys": listed.collect::<serde_json::Map<_, _>>(),
        "old_verify_keys": {},
        "valid_until_ts": u64::from(fake.now().0) + KEY_VALIDITY_MS,
    });
    let mut document: CanonicalJsonObject = serde_json::from_value(document).expect("all numbers are integers");
    for key in keys {
        key.sign_json(&mut document).expect("the document can be signed");
    }
    serde_json::to_value(document).expect("canonical JSON is JSON")
}

pub(crate) fn read_events(list: &Value, rules: &RoomVersionRules) -> Vec<Pdu> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|pdu| read_pdu(&pdu.to_string(), rules).expect("the server sends events").0).collect()
}

fn events(pdus: &[std::sync::Arc<Pdu>]) -> Value {
    pdus.iter().map(|pdu| serde_json::from_str::<Value>(&pdu.json).expect("an event is JSON")).collect()
}

fn query(request: &Request) -> Vec<(String, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decode(key), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'%').then(|| [rest.next(), rest.next()]);
        match escaped {
            Some([Some(high), Some(low)]) => {
                let digits = [high, low];
                let digits = std::str::from_utf8(&digits).unwrap_or("3F");
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'?'));
            }
            _ => bytes.push(if byte == b'+' { b' ' } else { byte }),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
