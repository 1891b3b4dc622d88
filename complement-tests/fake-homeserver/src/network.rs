//! Who can be reached under which name.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use outbound::{CallLimits, Transport, TransportError};
use rules::world::Clock;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::{FakeHomeserver, Request, Response};

/// A network inside this process. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    wires: Mutex<Wires>,
    mended: Notify,
}

#[derive(Default)]
struct Wires {
    parties: HashMap<OwnedServerName, Party>,
    cut: HashSet<OwnedServerName>,
    silent: HashSet<OwnedServerName>,
    delays: HashMap<OwnedServerName, Duration>,
    recorded: Vec<Recorded>,
}

#[derive(Clone)]
enum Party {
    Fake(FakeHomeserver),
    Real(Router),
}

/// A request that went over the network.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// To whom.
    pub destination: OwnedServerName,
    /// `METHOD path?query`.
    pub line: String,
    /// The body as JSON; `null` when there is none.
    pub body: serde_json::Value,
}

impl Network {
    /// A network without anybody, whose fakes read the given clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { inner: Arc::new(Inner { clock, wires: Mutex::default(), mended: Notify::new() }) }
    }

    /// A new fake homeserver.
    pub fn add_fake(&self, name: &str) -> FakeHomeserver {
        let name: OwnedServerName = name.try_into().expect("the name is a server name");
        let fake = FakeHomeserver::new(name.clone(), self.clone());
        self.wires().parties.insert(name, Party::Fake(fake.clone()));
        fake
    }

    /// The door of a server under test.
    pub fn add_router(&self, name: &ServerName, router: Router) {
        self.wires().parties.insert(name.to_owned(), Party::Real(router));
    }

    /// From now on the server cannot be connected to.
    pub fn cut(&self, name: &ServerName) {
        self.wires().cut.insert(name.to_owned());
    }

    /// From now on the server takes requests, and does not answer them until it is mended.
    pub fn silence(&self, name: &ServerName) {
        self.wires().silent.insert(name.to_owned());
    }

    /// From now on the server takes so long for each answer, by the clock of the runtime, which must stand still.
    pub fn delay(&self, name: &ServerName, time: Duration) {
        self.wires().delays.insert(name.to_owned(), time);
    }

    /// The server is as before.
    pub fn mend(&self, name: &ServerName) {
        let mut wires = self.wires();
        wires.delays.remove(name);
        wires.cut.remove(name);
        wires.silent.remove(name);
        self.inner.mended.notify_waiters();
    }

    /// Hands a request to a server; `None` when it cannot be reached.
    pub async fn deliver(&self, destination: &ServerName, request: Request) -> Option<Response> {
        let party = self.find(destination, &request);
        self.until_not_silent(destination).await;
        let delay = self.wires().delays.get(destination).copied();
        if let Some(delay) = delay {
            tokio::time::advance(delay).await;
        }
        match party? {
            Party::Fake(fake) => Some(fake.answer(&request)),
            Party::Real(router) => Some(call(router, request).await),
        }
    }

    /// All requests so far, in order.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.wires().recorded.clone()
    }

    /// The requests to a server whose line contains the text.
    pub fn recorded_to(&self, destination: &ServerName, text: &str) -> Vec<Recorded> {
        let wires = self.wires();
        let fits = |recorded: &&Recorded| recorded.destination == destination && recorded.line.contains(text);
        wires.recorded.iter().filter(fits).cloned().collect()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    async fn until_not_silent(&self, destination: &ServerName) {
        loop {
            let mended = self.inner.mended.notified();
            if !self.wires().silent.contains(destination) {
                return;
            }
            mended.await;
        }
    }

    fn find(&self, destination: &ServerName, request: &Request) -> Option<Party> {
        let mut wires = self.wires();
        wires.recorded.push(Recorded {
            destination: destination.to_owned(),
            line: format!("{} {}", request.method(), request.uri()),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
        });
        wires.parties.get(destination).cloned().filter(|_| !wires.cut.contains(destination))
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.inner.wires.lock().expect("no test panics while it holds the network")
    }
}

impl Transport for Network {
    fn send<'a>(
        &'a self,
        destination: &'a ServerName,
        request: Request,
        limits: CallLimits,
    ) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(limits.deadline, self.deliver(destination, request)).await;
            let answer = answer.map_err(|_| TransportError::Deadline(limits.deadline))?;
            let answer = answer.ok_or_else(|| TransportError::Unreachable("no such server".to_owned()))?;
            if answer.body().len() > limits.body_max_bytes {
                return Err(TransportError::TooLarge { limit_bytes: limits.body_max_bytes });
            }
            Ok(answer)
        })
    }

    fn send_unsigned(&self, request: Request, limits: CallLimits) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let host: OwnedServerName =
                host.try_into().map_err(|_| TransportError::Unreachable("no such server".to_owned()))?;
            self.send(&host, request, limits).await
        })
    }
}

async fn call(router: Router, request: Request) -> Response {
    let answer = router.oneshot(request.map(Body::from)).await;
    let (parts, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
    let body = body.collect().await.expect("the body of an answer is in memory").to_bytes();
    Response::from_parts(parts, body)
}
