//! A provider of each kind that calls a mock, and a world that always does the same.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aibots::{
    http::{Http, HttpOptions},
    provider::{Answer, Error, Message, Progress, Provider, Request, Role},
    providers::{Candidate, Completions, Kind, ProviderSettings, RetryPolicy, provider},
};
use mock_providers::{MockProvider, Reply};
use rules::world::{Chance, Clock, World};

pub(crate) const KEY: &str = "sk-secret-1";

/// A clock that is turned by hand.
pub(crate) struct HandClock(pub(crate) AtomicU64);

struct NoChance;

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Chance for NoChance {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

pub(crate) fn world() -> (World, Arc<HandClock>) {
    let clock = Arc::new(HandClock(AtomicU64::new(1_000_000)));
    (World { clock: Arc::clone(&clock) as Arc<dyn Clock>, chance: Arc::new(NoChance) }, clock)
}

pub(crate) fn http() -> Http {
    Http::new(&HttpOptions { user_agent: "nudge-aibots/test".to_owned(), ..HttpOptions::default() }).unwrap()
}

pub(crate) fn settings(kind: Kind, url: &str) -> ProviderSettings {
    let base_url = (!url.is_empty()).then(|| url.parse().unwrap());
    ProviderSettings {
        base_url,
        key_env: Some("MOCK_KEY".to_owned()),
        timeout_seconds: 20,
        ..ProviderSettings::of(kind)
    }
}

pub(crate) fn of_settings(settings: &ProviderSettings) -> Arc<dyn Provider> {
    let environment = |name: &str| (name == "MOCK_KEY").then(|| KEY.to_owned());
    provider("mock", settings, &environment, &http()).unwrap()
}

/// A server with this script, and a provider of this kind that calls it.
pub(crate) async fn staged(kind: Kind, script: impl IntoIterator<Item = Reply>) -> (MockProvider, Arc<dyn Provider>) {
    let mock = MockProvider::start(script).await.unwrap();
    let provider = of_settings(&settings(kind, &mock.url()));
    (mock, provider)
}

/// The answer of a provider of this kind to one question, and what was to be seen of it last.
pub(crate) async fn outcome(kind: Kind, reply: Reply) -> (Result<Answer, Error>, String) {
    outcome_within(20, kind, reply).await
}

/// The same of one that waits only so long.
pub(crate) async fn outcome_within(timeout_seconds: u16, kind: Kind, reply: Reply) -> (Result<Answer, Error>, String) {
    let mock = MockProvider::start([reply]).await.unwrap();
    let provider = of_settings(&ProviderSettings { timeout_seconds, ..settings(kind, &mock.url()) });
    let (progress, watcher) = Progress::watched();
    let outcome = provider.answer(&question(), &progress).await;
    let shown = watcher.borrow().clone();
    (outcome, shown)
}

pub(crate) fn question() -> Request {
    Request {
        model: "some-model".to_owned(),
        system: "You are a test.".to_owned(),
        messages: vec![Message::text(Role::User, "Hello?")],
        temperature: Some(0.8),
        output_tokens_max: 200,
        ..Request::default()
    }
}

/// Everything with short waits.
pub(crate) fn completions(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> (Completions, Arc<HandClock>) {
    let (world, clock) = world();
    let policy = RetryPolicy {
        wait_first: Duration::from_millis(10),
        wait_max: Duration::from_millis(40),
        total_max: Duration::from_secs(10),
    };
    (Completions::of(providers, policy, world), clock)
}

pub(crate) fn candidate(provider: &str, model: &str) -> Candidate {
    Candidate { provider: provider.to_owned(), model: model.to_owned() }
}

/// Everything that a configuration makes, with keys from `MOCK_KEY`.
pub(crate) fn configured(settings: &BTreeMap<String, ProviderSettings>) -> Completions {
    let environment = |name: &str| (name == "MOCK_KEY").then(|| KEY.to_owned());
    Completions::new(settings, &environment, &http(), world().0).unwrap()
}
