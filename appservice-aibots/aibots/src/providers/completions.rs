//! Asking with patience: trying again where that helps, resting where it does not, then another model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{counter, histogram};
use rules::world::World;
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use super::{
    OFFLINE,
    breaker::Breaker,
    models::ModelFacts,
    offline::Offline,
    provider,
    settings::{Kind, ProviderSettings, ProviderSetupError},
};
use crate::{
    context,
    http::Http,
    provider::{Answer, Error, Progress, Provider, Request},
};

/// How often a conversation is shortened because the model finds it too long. Each time halves it.
const SHORTENED_MAX: u32 = 3;
/// Tries of one model for one answer, however quickly they fail.
const TRIES_MAX: u32 = 6;

/// Requests to one provider at the same time, unless the settings say otherwise. Those of a provider that is slow wait for
/// each other, and nobody else does.
pub(crate) const ANSWERS_AT_ONCE: usize = 16;

/// A model to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Whose model: the name of a provider in the configuration.
    pub provider: String,
    /// The provider's name for it.
    pub model: String,
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Before the second try; doubled for each further one.
    pub wait_first: Duration,
    /// Between two tries at most.
    pub wait_max: Duration,
    /// All tries of one model together. A provider with a longer timeout of its own gets twice that.
    pub total_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_secs(1),
            wait_max: Duration::from_secs(30),
            total_max: Duration::from_mins(1),
        }
    }
}

/// All providers, and how they fare.
pub struct Completions {
    providers: BTreeMap<String, Entry>,
    breakers: Mutex<BTreeMap<Candidate, Breaker>>,
    policy: RetryPolicy,
    world: World,
}

struct Entry {
    provider: Arc<dyn Provider>,
    models: BTreeMap<String, ModelFacts>,
    is_offline: bool,
    total_max: Duration,
    /// Taken for one request each, not for the pauses between them.
    places: Semaphore,
}

impl Completions {
    /// The providers of the configuration, and the offline one. `environment` reads a variable, for keys.
    pub fn new(
        settings: &BTreeMap<String, ProviderSettings>,
        environment: &dyn Fn(&str) -> Option<String>,
        http: &Http,
        world: World,
    ) -> Result<Self, ProviderSetupError> {
        let mut all = Self::of([], RetryPolicy::default(), world);
        for (name, settings) in settings {
            let entry = Entry {
                provider: provider(name, settings, environment, http)?,
                models: settings.models.clone(),
                is_offline: settings.kind == Kind::Offline,
                total_max: all.policy.total_max.max(Duration::from_secs(u64::from(settings.timeout_seconds) * 2)),
                places: Semaphore::new(ANSWERS_AT_ONCE),
            };
            all.providers.insert(name.clone(), entry);
        }
        Ok(all)
    }

    /// These providers and the offline one, each under its own name.
    pub fn of(providers: impl IntoIterator<Item = Arc<dyn Provider>>, policy: RetryPolicy, world: World) -> Self {
        let entry = |provider: Arc<dyn Provider>, is_offline| {
            let total_max = policy.total_max;
            let places = Semaphore::new(ANSWERS_AT_ONCE);
            (provider.name().to_owned(), Entry { provider, models: BTreeMap::new(), is_offline, total_max, places })
        };
        let offline: Arc<dyn Provider> = Arc::new(Offline::new(OFFLINE));
        let mut all = BTreeMap::from([entry(offline, true)]);
        all.extend(providers.into_iter().map(|provider| entry(provider, false)));
        Self { providers: all, breakers: Mutex::default(), policy, world }
    }

    /// The same with another bound on the requests that one provider has at the same time.
    #[must_use]
    pub fn with_answers_at_once(mut self, answers_at_once: usize) -> Self {
        for entry in self.providers.values_mut() {
            entry.places = Semaphore::new(answers_at_once.clamp(1, Semaphore::MAX_PERMITS));
        }
        self
    }

    /// Whether there is such a provider; for checking a configuration.
    pub fn has_provider(&self, name: &str) -> bool {
        self.providers.contains_key(name)
    }

    /// How many tokens the model can read and write together.
    pub fn context_tokens(&self, candidate: &Candidate) -> u32 {
        self.facts(candidate).context_tokens(&candidate.model)
    }

    /// Whether the model takes pictures.
    pub fn sees(&self, candidate: &Candidate) -> bool {
        !self.is_offline(candidate) && self.facts(candidate).sees(&candidate.model)
    }

    /// Whether there is no model behind it: it can neither summarise nor call tools, and costs nothing.
    pub fn is_offline(&self, candidate: &Candidate) -> bool {
        self.providers.get(&candidate.provider).is_some_and(|entry| entry.is_offline)
    }

    /// Whether none of the candidates works at present. For the bot's presence.
    pub fn are_failing(&self, candidates: &[Candidate]) -> bool {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        candidates.iter().all(|candidate| breakers.get(candidate).is_some_and(Breaker::is_resting))
    }

    /// Answers, by the first candidate that can. [`Request::model`] is set from the candidate, and the usage is estimated
    /// where the provider does not tell it. The error is that of the last candidate that was really asked. What failed attempts
    /// have used is told to `progress`.
    pub async fn answer(
        &self,
        mut request: Request,
        candidates: &[Candidate],
        progress: &Progress,
    ) -> Result<Answer, Error> {
        let mut last = Error::NotConfigured;
        for candidate in candidates {
            let Some(entry) = self.providers.get(&candidate.provider) else { continue };
            candidate.model.clone_into(&mut request.model);
            match self.ask(entry, candidate, &mut request, progress).await {
                Ok(answer) => return Ok(with_usage(answer, &request)),
                // Somebody else might say it; that is no reason to ask them.
                Err(Error::ContentRefused) => return Err(Error::ContentRefused),
                Err(Error::Resting) if last != Error::NotConfigured => {}
                Err(error) => last = error,
            }
            progress.restart();
        }
        Err(last)
    }

    async fn ask(
        &self,
        entry: &Entry,
        candidate: &Candidate,
        request: &mut Request,
        progress: &Progress,
    ) -> Result<Answer, Error> {
        let mut begun = Instant::now();
        let mut shortened = 0;
        for tries in 0..TRIES_MAX {
            let (place, waited) = entry.place().await;
            // Waiting for others is no fault of this provider, and takes nothing of the time that it is given.
            begun += waited;
            self.with_breaker(candidate, Breaker::admit)?;
            let left = entry.total_max.saturating_sub(begun.elapsed());
            let outcome = self.attempt(entry, request, left, progress).await;
            drop(place);
            let error = match outcome {
                Ok(answer) => {
                    self.with_breaker(candidate, |breaker, _| breaker.succeed());
                    return Ok(answer);
                }
                Err(error) => error,
            };
            self.with_breaker(candidate, |breaker, now_ms| breaker.fail(&error, now_ms));
            tracing::warn!(provider = candidate.provider, model = candidate.model, %error, tries, "no answer");
            if error.costs() || !progress.so_far().is_empty() {
                progress.lose(context::estimate_usage(request, &progress.so_far()));
            }
            progress.restart();
            if error == Error::ContextTooLong && shortened < SHORTENED_MAX && context::shorten(&mut request.messages) {
                shortened += 1;
                continue;
            }
            let wait = self.wait(&error, tries);
            if !error.is_worth_retrying() || begun.elapsed() + wait >= entry.total_max {
                return Err(error);
            }
            sleep(wait).await;
        }
        Err(Error::Overloaded { retry_after: None })
    }

    async fn attempt(
        &self,
        entry: &Entry,
        request: &Request,
        left: Duration,
        progress: &Progress,
    ) -> Result<Answer, Error> {
        let begun = Instant::now();
        let outcome = timeout(left, entry.provider.answer(request, progress)).await.unwrap_or(Err(Error::Timeout));
        let label = outcome.as_ref().map_or_else(Error::label, |_| "answered");
        let names = [("provider", entry.provider.name().to_owned()), ("model", request.model.clone())];
        counter!("aibots_provider_requests_total", [&names[..], &[("outcome", label.to_owned())]].concat().as_slice())
            .increment(1);
        histogram!("aibots_provider_request_duration_seconds", &names[..]).record(begun.elapsed().as_secs_f64());
        outcome
    }

    /// What the provider wants, or else longer each time; never for many at the same moment.
    fn wait(&self, error: &Error, tries: u32) -> Duration {
        let doubled = self.policy.wait_first.saturating_mul(1 << tries.min(16)).min(self.policy.wait_max);
        let half_ms = u64::try_from(doubled.as_millis() / 2).unwrap_or(0);
        let jitter = Duration::from_millis(self.world.random_below(half_ms + 1));
        match error.retry_after() {
            Some(wanted) => wanted + jitter,
            None => doubled / 2 + jitter,
        }
    }

    fn with_breaker<T>(&self, candidate: &Candidate, act: impl FnOnce(&mut Breaker, u64) -> T) -> T {
        let now_ms = self.world.clock.now_ms();
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        act(breakers.entry(candidate.clone()).or_default(), now_ms)
    }

    fn facts(&self, candidate: &Candidate) -> ModelFacts {
        let entry = self.providers.get(&candidate.provider);
        entry.and_then(|entry| entry.models.get(&candidate.model)).copied().unwrap_or_default()
    }
}

impl Entry {
    /// A place among the requests of this provider, and how long it took to get it.
    async fn place(&self) -> (SemaphorePermit<'_>, Duration) {
        let arrived = Instant::now();
        let place = self.places.acquire().await.expect("it is never closed");
        (place, arrived.elapsed())
    }
}

fn with_usage(mut answer: Answer, request: &Request) -> Answer {
    let usage = *answer.usage.get_or_insert_with(|| context::estimate_usage(request, &answer.text));
    let model = request.model.clone();
    counter!("aibots_tokens_total", "model" => model.clone(), "kind" => "input").increment(usage.input_tokens);
    counter!("aibots_tokens_total", "model" => model, "kind" => "output").increment(usage.output_tokens);
    answer
}
