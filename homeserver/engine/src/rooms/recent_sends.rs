//! Which requests made the latest events of each device, for the device's own `/sync` to show.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#local-echo>

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use ruma::{EventId, OwnedEventId};

use crate::Requester;

/// How many devices' sends are remembered, and for how long after the last one. Fifty sends take some ten kilobytes.
const DEVICES_CAPACITY: u64 = 2_000;
const LIFETIME: Duration = Duration::from_mins(10);
/// How many sends of each: more than the part of a timeline that a sync shows.
const SENDS_MAX: usize = 50;

/// The latest sends of all devices.
pub(crate) struct RecentSends(Cache<Requester, DeviceSends>);

/// The latest sends of one device.
#[derive(Clone, Default)]
pub(crate) struct DeviceSends(Arc<Mutex<Sends>>);

#[derive(Default)]
struct Sends {
    transaction_ids: HashMap<OwnedEventId, String>,
    /// Oldest first.
    event_ids: VecDeque<OwnedEventId>,
}

impl Default for RecentSends {
    fn default() -> Self {
        let devices = Cache::builder()
            .max_capacity(DEVICES_CAPACITY)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(LIFETIME);
        Self(devices.build())
    }
}

impl RecentSends {
    pub(crate) fn remember(&self, requester: Requester, event_id: OwnedEventId, transaction_id: String) {
        let device = self.0.get_with(requester, DeviceSends::default);
        let mut sends = device.lock();
        if sends.transaction_ids.insert(event_id.clone(), transaction_id).is_some() {
            return;
        }
        sends.event_ids.push_back(event_id);
        if sends.event_ids.len() > SENDS_MAX
            && let Some(oldest) = sends.event_ids.pop_front()
        {
            sends.transaction_ids.remove(&oldest);
        }
    }

    /// Those of a device; `None` when it has sent nothing for some time.
    pub(crate) fn of(&self, requester: &Requester) -> Option<DeviceSends> {
        self.0.get(requester)
    }
}

impl DeviceSends {
    /// By which transaction the device made an event, if it did so lately.
    pub(crate) fn transaction_id(&self, event_id: &EventId) -> Option<String> {
        self.lock().transaction_ids.get(event_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Sends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{EventId, owned_device_id, owned_user_id};

    use super::{RecentSends, SENDS_MAX};
    use crate::Requester;

    #[test]
    fn a_device_knows_its_own_latest_sends() {
        let sends = RecentSends::default();
        let requester = |device_id| Requester { user_id: owned_user_id!("@alice:test"), device_id };
        let (telephone, tablet) = (requester(owned_device_id!("TELEPHONE")), requester(owned_device_id!("TABLET")));
        let event_id = |number: usize| EventId::parse(format!("${number}:test")).unwrap();
        assert!(sends.of(&telephone).is_none());
        for number in [0].into_iter().chain(0..=SENDS_MAX) {
            sends.remember(telephone.clone(), event_id(number), number.to_string());
        }
        sends.remember(tablet.clone(), event_id(1_000), "t".to_owned());
        let (of_telephone, of_tablet) = (sends.of(&telephone).unwrap(), sends.of(&tablet).unwrap());
        assert_eq!(of_telephone.transaction_id(&event_id(0)), None, "fifty have come since");
        assert_eq!(of_telephone.transaction_id(&event_id(1)).as_deref(), Some("1"));
        assert_eq!(of_telephone.transaction_id(&event_id(SENDS_MAX)), Some(SENDS_MAX.to_string()));
        assert_eq!(of_telephone.transaction_id(&event_id(1_000)), None);
        assert_eq!(of_tablet.transaction_id(&event_id(1_000)).as_deref(), Some("t"));
    }
}
