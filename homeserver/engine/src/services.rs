//! Application services: who speaks for whom, what each is sent, and what each is asked.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/>

mod accounts;
mod bots;
mod device_lists;
mod ephemeral;
mod interest;
mod queries;
mod queue;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use appservices::Services;
use ruma::{OwnedUserId, UserId};
use tokio::sync::{Notify, watch};

pub use self::accounts::ServiceRegistration;

/// How many changes of presence are remembered until all services have heard of them.
const PRESENCES_MAX: usize = 5_000;

/// What is kept in memory about the queues of services.
pub(crate) struct ServiceQueues {
    contacts: BTreeMap<String, Contact>,
    /// Changes when something changed that no log tells of: who is typing, and who is there.
    ephemeral: watch::Sender<()>,
    presences: Mutex<Presences>,
    /// Whether there is any service that wants to hear of presence.
    is_presence_heard: bool,
}

/// Whose presence changed lately.
#[derive(Default)]
struct Presences {
    /// How often a presence changed.
    count: u64,
    /// The last ones, the newest at the back.
    users: VecDeque<OwnedUserId>,
}

/// Whether a service is being waited for, and how its queue hears that it is back.
#[derive(Default)]
struct Contact {
    is_failing: AtomicBool,
    is_back: Notify,
}

impl ServiceQueues {
    pub(crate) fn new(services: &Services) -> Self {
        let contacts = services.all().iter().map(|service| (service.id().to_owned(), Contact::default()));
        Self {
            contacts: contacts.collect(),
            ephemeral: watch::Sender::new(()),
            presences: Mutex::default(),
            is_presence_heard: services.all().iter().any(|service| service.registration().receives_ephemeral),
        }
    }

    /// Hears that something changed that no log tells of.
    pub(crate) fn ephemeral_changed(&self) {
        self.ephemeral.send_replace(());
    }

    /// Hears that a user is shown otherwise.
    pub(crate) fn presence_changed(&self, user_id: &UserId) {
        if !self.is_presence_heard {
            return;
        }
        let mut presences = self.presences.lock().unwrap_or_else(PoisonError::into_inner);
        presences.count += 1;
        if presences.users.len() == PRESENCES_MAX {
            presences.users.pop_front();
        }
        presences.users.push_back(user_id.to_owned());
        drop(presences);
        self.ephemeral_changed();
    }

    /// How often a presence changed, and whose since then.
    fn presences_since(&self, count: u64) -> (u64, BTreeSet<OwnedUserId>) {
        let presences = self.presences.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(presences.count.saturating_sub(count)).unwrap_or(usize::MAX);
        (presences.count, presences.users.iter().rev().take(new).cloned().collect())
    }

    /// Hears from a service: if we were waiting to try it again, now is the time.
    fn heard_from(&self, service: &str) {
        if let Some(contact) = self.contacts.get(service)
            && contact.is_failing.load(Ordering::Relaxed)
        {
            contact.is_back.notify_one();
        }
    }
}
