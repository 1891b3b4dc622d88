//! How many connections each address has open.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use super::Listener;
use crate::configuration::Network;

/// The open connections of a listener.
pub(super) struct Places {
    listener: &'static str,
    per_address_max: usize,
    trusted_proxies: Arc<[Network]>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection; dropping it frees the place.
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(listener: &Listener) -> Arc<Self> {
        Arc::new(Self {
            listener: listener.name,
            per_address_max: listener.limits.connections_per_address_max,
            trusted_proxies: listener.trusted_proxies.clone(),
            open: Mutex::default(),
        })
    }

    /// A place for a connection from `peer`, unless it has too many.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let address = subscriber(peer);
        let limited = !carries_many(peer, &self.trusted_proxies);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.by_address.entry(address).or_default();
        if limited && *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        open.total += 1;
        self.show(&open);
        Some(Place { places: self.clone(), address })
    }

    fn show(&self, open: &Open) {
        metrics::gauge!("http_connections", "listener" => self.listener)
            .set(u32::try_from(open.total).unwrap_or(u32::MAX));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
        self.places.show(&open);
    }
}

/// Whether many people's requests come from an address: it is this machine's, where a proxy may run, or a known proxy's.
pub(super) fn carries_many(peer: IpAddr, trusted_proxies: &[Network]) -> bool {
    peer.to_canonical().is_loopback() || trusted_proxies.iter().any(|proxy| proxy.contains(peer))
}

/// One subscriber commands a whole /64 of IPv6, so that counts as one address.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Arc::new(Places {
            listener: "test",
            per_address_max: 2,
            trusted_proxies: Arc::new(["192.0.2.80".parse().unwrap()]),
            open: Mutex::default(),
        })
    }

    #[test]
    fn s_153_one_address_cannot_take_all_places() {
        let places = places();
        let take = |address: &str| places.take(address.parse().unwrap());
        let held = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap());
        assert!(take("2001:db8::3").is_none());
        let other = take("2001:db8:0:1::3").unwrap();
        drop(held.0);
        assert!(take("2001:db8::3").is_some());
        drop((held.1, other));
        assert!(places.open.lock().unwrap().by_address.is_empty());
    }

    #[test]
    fn proxies_and_this_machine_carry_many() {
        let places = places();
        let held: Vec<_> = ["192.0.2.80", "127.0.0.1", "::1"]
            .repeat(9)
            .iter()
            .map(|address| places.take(address.parse().unwrap()))
            .collect();
        assert!(held.iter().all(Option::is_some));
    }
}
