//! The network of a universe: a table of doors, and what goes wrong on the way to them.
//!
//! What happens to a request follows from the seed, the two servers, the path and how often it was asked before: not
//! from the order of requests, which differs between replays where a server does two things at the same time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use outbound::{CallLimits, Transport, TransportError};
use rules::Pdu;
use ruma::{EventId, OwnedServerName, ServerName};
use serde::Deserialize;
use tower::ServiceExt as _;

use crate::{clock::HandClock, dice::Dice, trace::Trace};

/// How unreliable the network is.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "the unit stands last")]
pub(crate) struct Weather {
    /// How many requests of a hundred are lost on their way.
    pub(crate) lost_requests_percent: u32,
    /// How many answers of a hundred are lost on their way back: the request was done.
    pub(crate) lost_answers_percent: u32,
    /// How many requests of a hundred arrive twice.
    pub(crate) duplicates_percent: u32,
    /// How many requests of a hundred take their time.
    pub(crate) delays_percent: u32,
}

/// The longest that a request is on its way.
const DELAY_MAX_MS: usize = 20_000;

/// A network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    clock: Arc<HandClock>,
    trace: Trace,
    wires: Mutex<Wires>,
}

#[derive(Default)]
struct Wires {
    doors: BTreeMap<OwnedServerName, Router>,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(OwnedServerName, OwnedServerName)>,
    weather: Weather,
    asked: BTreeMap<String, u64>,
    /// What servers said that they did not take of a transaction: which server, and which event.
    refused: BTreeSet<(OwnedServerName, String)>,
    /// The content hashes of the events that servers were handed in transactions: from whom, to whom, and which.
    handed: BTreeSet<(OwnedServerName, OwnedServerName, String)>,
}

/// As much of a transaction as tells which events are in it.
#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    pdus: Vec<HashedPdu>,
}

/// As much of an event as tells it from all others.
#[derive(Deserialize)]
struct HashedPdu {
    hashes: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: String,
}

/// As much of the answer to a transaction as tells what was not taken.
#[derive(Deserialize)]
struct TransactionAnswer {
    pdus: BTreeMap<String, PduAnswer>,
}

#[derive(Deserialize)]
struct PduAnswer {
    error: Option<String>,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    request_lost: bool,
    answer_lost: bool,
    twice: bool,
    delay_ms: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, clock: Arc<HandClock>, trace: Trace) -> Self {
        Self { inner: Arc::new(Inner { seed, clock, trace, wires: Mutex::default() }) }
    }

    /// How a server speaks to others.
    pub(crate) fn line_of(&self, server: &ServerName) -> Line {
        Line { network: self.clone(), origin: server.to_owned() }
    }

    /// From now on the server answers at this door.
    pub(crate) fn connect(&self, server: &ServerName, door: Router) {
        self.wires().doors.insert(server.to_owned(), door);
    }

    /// The server answers no more.
    pub(crate) fn disconnect(&self, server: &ServerName) {
        self.wires().doors.remove(server);
    }

    /// Nothing gets from one server to another any more.
    pub(crate) fn cut(&self, from: &ServerName, to: &ServerName) {
        self.wires().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// All cuts are mended.
    pub(crate) fn mend(&self) {
        self.wires().cut.clear();
    }

    /// From now on the network is so unreliable.
    pub(crate) fn set_weather(&self, weather: Weather) {
        self.wires().weather = weather;
    }

    /// From now on all goes well.
    pub(crate) fn heal(&self) {
        let mut wires = self.wires();
        wires.cut.clear();
        wires.weather = Weather::default();
    }

    async fn send(
        &self,
        origin: &ServerName,
        destination: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let text = format!("{} {}", request.method(), request.uri().path());
        let (door, fate) = self.fate(origin, destination, &text);
        self.inner.clock.advance(fate.delay_ms);
        let Some(door) = door.filter(|_| !fate.request_lost) else {
            self.tell(origin, destination, &text, "does not arrive");
            return Err(TransportError::Unreachable("the request is lost".to_owned()));
        };
        if fate.twice {
            self.tell(origin, destination, &text, "arrives twice");
            call(door.clone(), request.clone()).await;
        }
        let body = request.body().clone();
        let answer = call(door, request).await;
        self.note_refusals(destination, &answer);
        if answer.status().is_success() && text.contains("/federation/v1/send/") {
            self.note_handed(origin, destination, &body);
        }
        if fate.answer_lost {
            self.tell(origin, destination, &text, "is done, the answer is lost");
            return Err(TransportError::Unreachable("the answer is lost".to_owned()));
        }
        self.tell(origin, destination, &text, answer.status().as_str());
        Ok(answer)
    }

    /// Whether a server has said that it did not take an event.
    pub(crate) fn has_refused(&self, server: &ServerName, event_id: &EventId) -> bool {
        self.wires().refused.contains(&(server.to_owned(), event_id.to_string()))
    }

    /// Whether one server has handed another an event in a transaction.
    pub(crate) fn has_handed(&self, origin: &ServerName, destination: &ServerName, pdu: &Pdu) -> bool {
        let Ok(HashedPdu { hashes }) = serde_json::from_str(&pdu.json) else { return false };
        self.wires().handed.contains(&(origin.to_owned(), destination.to_owned(), hashes.sha256))
    }

    fn note_handed(&self, origin: &ServerName, destination: &ServerName, body: &[u8]) {
        let Ok(Transaction { pdus }) = serde_json::from_slice(body) else { return };
        let handed = pdus.into_iter().map(|pdu| (origin.to_owned(), destination.to_owned(), pdu.hashes.sha256));
        self.wires().handed.extend(handed);
    }

    fn note_refusals(&self, destination: &ServerName, answer: &Response<Bytes>) {
        let Ok(TransactionAnswer { pdus }) = serde_json::from_slice(answer.body()) else { return };
        let refused = pdus.into_iter().filter(|(_, answer)| answer.error.is_some());
        self.wires().refused.extend(refused.map(|(event_id, _)| (destination.to_owned(), event_id)));
    }

    fn tell(&self, origin: &ServerName, destination: &ServerName, text: &str, outcome: &str) {
        self.inner.trace.aside(format!("        {origin} -> {destination} {text}: {outcome}"));
    }

    fn fate(&self, origin: &ServerName, destination: &ServerName, text: &str) -> (Option<Router>, Fate) {
        let mut wires = self.wires();
        let key = format!("{origin} {destination} {text}");
        let asked = wires.asked.entry(key.clone()).or_default();
        *asked += 1;
        let mut dice = Dice::new(self.inner.seed, &format!("{key} {asked}"));
        let weather = wires.weather;
        let is_cut = |from: &ServerName, to: &ServerName| wires.cut.contains(&(from.to_owned(), to.to_owned()));
        let fate = Fate {
            request_lost: dice.percent(weather.lost_requests_percent) || is_cut(origin, destination),
            answer_lost: dice.percent(weather.lost_answers_percent) || is_cut(destination, origin),
            twice: dice.percent(weather.duplicates_percent),
            delay_ms: if dice.percent(weather.delays_percent) { dice.below(DELAY_MAX_MS) as u64 } else { 0 },
        };
        (wires.doors.get(destination).cloned(), fate)
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.inner.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One server's end of the network.
pub(crate) struct Line {
    network: Network,
    origin: OwnedServerName,
}

impl Transport for Line {
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: Request<Bytes>,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let answer = self.network.send(&self.origin, destination, request).await?;
            if answer.body().len() > limits.body_max_bytes {
                return Err(TransportError::TooLarge { limit_bytes: limits.body_max_bytes });
            }
            Ok(answer)
        })
    }
}

async fn call(door: Router, request: Request<Bytes>) -> Response<Bytes> {
    let answer = door.oneshot(request.map(Body::from)).await;
    let (parts, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
    let body = body.collect().await.expect("the body of an answer is in memory").to_bytes();
    Response::from_parts(parts, body)
}
