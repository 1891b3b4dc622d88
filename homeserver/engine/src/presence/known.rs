//! What is known of who is there: in memory only.
//!
//! Of our own users, what each of their devices says; of others, what their servers say.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId, presence::PresenceState};

/// How long a device counts after it was heard of last.
pub(super) const DEVICE_EXPIRY_MS: u64 = 30_000;
/// How long a user who does nothing is shown as online.
pub(super) const IDLE_AFTER_MS: u64 = 5 * 60_000;
/// How long somebody who did something counts as active.
const ACTIVE_FOR_MS: u64 = 60_000;
/// How long what another server said holds: they repeat themselves, and a server that is gone takes nothing back.
pub(super) const REMOTE_EXPIRY_MS: u64 = 30 * 60_000;
/// After how long we repeat ourselves.
const REPEAT_AFTER_MS: u64 = 25 * 60_000;
/// Of how many users something is known. Beyond, those who are offline are forgotten first.
pub(super) const USERS_MAX: usize = 200_000;
/// How many devices of one user are told apart.
const DEVICES_PER_USER_MAX: usize = 50;

/// How a user is shown to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The state; `busy` is one that ruma has no name for.
    pub state: PresenceState,
    /// What the user says about it.
    pub status_msg: Option<String>,
    /// When the user did something last, in milliseconds since the epoch; 0 if that is not known.
    pub last_active_ms: u64,
    /// Whether that was just now.
    pub currently_active: bool,
}

/// Everybody of whom something is known.
#[derive(Default)]
pub(crate) struct Known {
    users: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    by_id: HashMap<OwnedUserId, User>,
    /// Whether somebody looks regularly who is gone.
    is_watched: bool,
}

#[derive(Default)]
struct User {
    devices: HashMap<OwnedDeviceId, Device>,
    /// When another server spoke of the user last.
    heard_ms: Option<u64>,
    state: Shown,
    status_msg: Option<String>,
    last_active_ms: u64,
    /// When others were told of the user last.
    told_ms: u64,
    /// Whether the user was active when the server of the user spoke.
    said_active: bool,
}

struct Device {
    state: Shown,
    /// How many of its syncs are being worked on.
    syncs: u32,
    seen_ms: u64,
    active_ms: u64,
    /// The user wants to be taken for offline.
    is_hidden: bool,
}

/// The states, the one that wins over the others last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    #[default]
    Offline,
    Unavailable,
    Online,
    Busy,
}

impl Shown {
    /// Nothing for states that nobody has heard of.
    pub(super) fn read(state: &PresenceState) -> Option<Self> {
        match state.as_str() {
            "offline" => Some(Self::Offline),
            "unavailable" => Some(Self::Unavailable),
            "online" => Some(Self::Online),
            "busy" | "org.matrix.msc3026.busy" => Some(Self::Busy),
            _ => None,
        }
    }

    fn name(self) -> PresenceState {
        match self {
            Self::Offline => PresenceState::Offline,
            Self::Unavailable => PresenceState::Unavailable,
            Self::Online => PresenceState::Online,
            Self::Busy => PresenceState::from("busy"),
        }
    }
}

/// What became of a word about a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Whether others are to be told.
    pub(super) changed: bool,
    /// Whether somebody must begin to look regularly who is gone.
    pub(super) needs_watch: bool,
}

/// Who was not heard of for long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// For whom that changes something.
    pub(super) changed: Vec<OwnedUserId>,
    /// Of whom other servers were told long ago.
    pub(super) to_repeat: Vec<OwnedUserId>,
    /// Whether there is anybody left to look after.
    pub(super) is_anybody_left: bool,
}

impl Known {
    /// What users said about their presence before the server stopped. They are offline until they are heard of.
    pub(super) fn restore(&self, statuses: Vec<(OwnedUserId, String)>) {
        let mut users = self.lock();
        for (user_id, status_msg) in statuses {
            if users.by_id.len() < USERS_MAX {
                users.by_id.entry(user_id).or_default().status_msg.get_or_insert(status_msg);
            }
        }
    }

    /// A device begins to sync.
    pub(super) fn begin_sync(&self, user_id: &UserId, device_id: &DeviceId, state: Shown, now_ms: u64) -> Noted {
        self.update(user_id, now_ms, |user| {
            let Some(device) = user.device(device_id, now_ms, state) else { return };
            device.syncs += 1;
            // Who is busy stays so although the client goes on syncing as usual.
            let stays_busy = device.state == Shown::Busy && state == Shown::Online;
            if !stays_busy {
                device.state = state;
            }
            device.is_hidden &= state == Shown::Offline;
        })
    }

    /// A sync of a device has ended.
    pub(super) fn end_sync(&self, user_id: &UserId, device_id: &DeviceId, now_ms: u64) {
        if let Some(device) = self.lock().by_id.get_mut(user_id).and_then(|user| user.devices.get_mut(device_id)) {
            device.syncs = device.syncs.saturating_sub(1);
            device.seen_ms = now_ms;
        }
    }

    /// A user says how they want to be shown.
    pub(super) fn set(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        state: Shown,
        status_msg: Option<String>,
        now_ms: u64,
    ) -> Noted {
        self.update(user_id, now_ms, |user| {
            user.status_msg = status_msg;
            let Some(device) = user.device(device_id, now_ms, state) else { return };
            device.state = state;
            device.is_hidden = state == Shown::Offline;
            if matches!(state, Shown::Online | Shown::Busy) {
                device.active_ms = now_ms;
            }
        })
    }

    /// A user did something on a device.
    pub(super) fn act(&self, user_id: &UserId, device_id: &DeviceId, now_ms: u64) -> Noted {
        let known = self.lock().by_id.get(user_id).is_some_and(|user| user.devices.contains_key(device_id));
        if !known {
            return Noted::default();
        }
        self.update(user_id, now_ms, |user| {
            if let Some(device) = user.devices.get_mut(device_id) {
                device.active_ms = now_ms;
            }
        })
    }

    /// Another server says how one of its users is to be shown.
    pub(super) fn hear(&self, user_id: &UserId, presence: &Presence, now_ms: u64) -> Noted {
        let Some(state) = Shown::read(&presence.state) else { return Noted::default() };
        self.update(user_id, now_ms, |user| {
            user.heard_ms = Some(now_ms);
            user.state = state;
            user.status_msg.clone_from(&presence.status_msg);
            user.last_active_ms = presence.last_active_ms;
            user.said_active = presence.currently_active;
        })
    }

    /// Lets go of devices and users that were not heard of for long.
    pub(super) fn expire(&self, now_ms: u64) -> Expired {
        let mut users = self.lock();
        let mut expired = Expired::default();
        for (user_id, user) in &mut users.by_id {
            if user.state == Shown::Offline && user.devices.is_empty() {
                continue;
            }
            let before = (user.state, user.devices.len());
            user.refresh(now_ms);
            if before.0 != user.state {
                user.told_ms = now_ms;
                expired.changed.push(user_id.clone());
            } else if user.is_to_be_repeated(now_ms) {
                user.told_ms = now_ms;
                expired.to_repeat.push(user_id.clone());
            }
            expired.is_anybody_left |= user.state != Shown::Offline || !user.devices.is_empty();
        }
        users.is_watched = expired.is_anybody_left;
        expired
    }

    /// How a user is shown.
    pub(super) fn get(&self, user_id: &UserId, now_ms: u64) -> Option<Presence> {
        self.lock().by_id.get(user_id).map(|user| user.shown(now_ms))
    }

    /// Everybody who is not offline.
    pub(super) fn present(&self) -> Vec<OwnedUserId> {
        let users = self.lock();
        let present = users.by_id.iter().filter(|(_, user)| user.state != Shown::Offline);
        present.map(|(user_id, _)| user_id.clone()).collect()
    }

    fn update(&self, user_id: &UserId, now_ms: u64, change: impl FnOnce(&mut User)) -> Noted {
        let mut users = self.lock();
        if !users.by_id.contains_key(user_id) && !users.make_room() {
            return Noted::default();
        }
        let user = users.by_id.entry(user_id.to_owned()).or_default();
        let before = (user.state, user.status_msg.clone());
        change(user);
        user.refresh(now_ms);
        let changed = before != (user.state, user.status_msg.clone());
        if changed {
            user.told_ms = now_ms;
        }
        let is_alive = user.state != Shown::Offline || !user.devices.is_empty();
        let needs_watch = is_alive && !std::mem::replace(&mut users.is_watched, true);
        Noted { changed, needs_watch }
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn make_room(&mut self) -> bool {
        if self.by_id.len() >= USERS_MAX {
            self.by_id.retain(|_, user| user.state != Shown::Offline || !user.devices.is_empty());
        }
        self.by_id.len() < USERS_MAX
    }
}

impl User {
    /// One of the user's devices, which is there from now on.
    fn device(&mut self, device_id: &DeviceId, now_ms: u64, state: Shown) -> Option<&mut Device> {
        if self.devices.len() >= DEVICES_PER_USER_MAX && !self.devices.contains_key(device_id) {
            return None;
        }
        let new = || Device { state, syncs: 0, seen_ms: now_ms, active_ms: 0, is_hidden: false };
        let device = self.devices.entry(device_id.to_owned()).or_insert_with(new);
        device.seen_ms = now_ms;
        // Who comes back has done something, if only by opening the client.
        if device.active_ms == 0 && state != Shown::Offline {
            device.active_ms = now_ms;
        }
        Some(device)
    }

    /// Puts together what the devices say, or lets go of what another server said long ago.
    fn refresh(&mut self, now_ms: u64) {
        if let Some(heard_ms) = self.heard_ms {
            if now_ms.saturating_sub(heard_ms) >= REMOTE_EXPIRY_MS {
                self.state = Shown::Offline;
                self.said_active = false;
            }
            return;
        }
        self.devices.retain(|_, device| device.syncs > 0 || now_ms.saturating_sub(device.seen_ms) < DEVICE_EXPIRY_MS);
        if self.devices.values().any(|device| device.is_hidden) {
            self.state = Shown::Offline;
            return;
        }
        self.state = self.devices.values().map(|device| device.shown(now_ms)).max().unwrap_or_default();
        let active_ms = self.devices.values().filter(|device| device.state != Shown::Offline);
        self.last_active_ms = active_ms.map(|device| device.active_ms).fold(self.last_active_ms, u64::max);
    }

    /// Whether other servers are to hear again of a user of ours before they take them for gone.
    fn is_to_be_repeated(&self, now_ms: u64) -> bool {
        self.heard_ms.is_none()
            && self.state != Shown::Offline
            && now_ms.saturating_sub(self.told_ms) >= REPEAT_AFTER_MS
    }

    fn shown(&self, now_ms: u64) -> Presence {
        let is_online = self.state >= Shown::Online;
        let currently_active = match self.heard_ms {
            Some(_) => self.said_active,
            None => is_online && now_ms.saturating_sub(self.last_active_ms) < ACTIVE_FOR_MS,
        };
        Presence {
            state: self.state.name(),
            status_msg: self.status_msg.clone(),
            last_active_ms: self.last_active_ms,
            currently_active,
        }
    }
}

impl Device {
    fn shown(&self, now_ms: u64) -> Shown {
        let is_idle = self.state == Shown::Online && now_ms.saturating_sub(self.active_ms) >= IDLE_AFTER_MS;
        if is_idle { Shown::Unavailable } else { self.state }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};

    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    fn shown(known: &Known, now_ms: u64) -> String {
        known.get(user_id!("@alice:test"), now_ms).map(|shown| shown.state.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_devices_are_put_together() {
        let known = Known::default();
        let alice = user_id!("@alice:test");
        let (phone, desk) = (device_id!("PHONE"), device_id!("DESK"));
        assert_eq!(known.begin_sync(alice, phone, Shown::Unavailable, NOW), Noted { changed: true, needs_watch: true });
        assert_eq!(shown(&known, NOW), "unavailable");
        assert!(known.begin_sync(alice, desk, Shown::Online, NOW).changed);
        assert_eq!(shown(&known, NOW), "online");
        assert!(known.set(alice, desk, Shown::Busy, None, NOW).changed);
        // A sync as usual does not end it.
        assert!(!known.begin_sync(alice, desk, Shown::Online, NOW).changed);
        assert_eq!(shown(&known, NOW), "busy");
        // Who wants to be taken for offline is, whatever the other devices do.
        assert!(known.set(alice, phone, Shown::Offline, None, NOW).changed);
        assert!(!known.begin_sync(alice, desk, Shown::Online, NOW + 1).changed);
        assert_eq!(shown(&known, NOW), "offline");
        let frozen = known.get(alice, NOW).unwrap().last_active_ms;
        known.act(alice, desk, NOW + 10_000);
        assert_eq!(known.get(alice, NOW).unwrap().last_active_ms, frozen);
        assert!(known.begin_sync(alice, phone, Shown::Online, NOW + 2).changed);
        assert_eq!(shown(&known, NOW), "busy");
    }

    #[test]
    fn who_is_gone_is_offline_and_who_does_nothing_is_unavailable() {
        let known = Known::default();
        let (alice, phone) = (user_id!("@alice:test"), device_id!("PHONE"));
        known.begin_sync(alice, phone, Shown::Online, NOW);
        let expired = |now_ms| {
            let expired = known.expire(now_ms);
            (expired.changed, expired.is_anybody_left)
        };
        assert_eq!(expired(NOW + IDLE_AFTER_MS - 1), (vec![], true));
        assert_eq!(expired(NOW + IDLE_AFTER_MS), (vec![alice.to_owned()], true));
        assert_eq!(shown(&known, NOW), "unavailable");
        assert!(known.act(alice, phone, NOW + IDLE_AFTER_MS + 1).changed);
        assert_eq!(shown(&known, NOW), "online");
        let end = NOW + IDLE_AFTER_MS + 2;
        known.end_sync(alice, phone, end);
        assert_eq!(expired(end + DEVICE_EXPIRY_MS - 1), (vec![], true));
        assert_eq!(expired(end + DEVICE_EXPIRY_MS), (vec![alice.to_owned()], false));
        assert_eq!(shown(&known, end), "offline");
        assert!(known.present().is_empty());
    }

    #[test]
    fn who_stays_is_told_of_again_before_other_servers_take_them_for_gone() {
        let known = Known::default();
        let (alice, phone) = (user_id!("@alice:test"), device_id!("PHONE"));
        known.begin_sync(alice, phone, Shown::Busy, NOW);
        for (after_ms, is_repeated) in
            [(REPEAT_AFTER_MS - 1, false), (REPEAT_AFTER_MS, true), (REPEAT_AFTER_MS + 1, false)]
        {
            let expired = known.expire(NOW + after_ms);
            assert_eq!(!expired.to_repeat.is_empty(), is_repeated, "after {after_ms} ms");
            assert!(expired.changed.is_empty());
        }
        const { assert!(REPEAT_AFTER_MS < REMOTE_EXPIRY_MS) };
    }

    #[test]
    fn what_other_servers_say_holds_for_a_while() {
        let known = Known::default();
        let alice = user_id!("@alice:test");
        let said = Presence {
            state: "busy".into(),
            status_msg: Some("in a call".to_owned()),
            last_active_ms: NOW,
            currently_active: true,
        };
        assert!(known.hear(alice, &said, NOW).changed);
        assert!(!known.hear(alice, &said, NOW + 5).changed);
        assert_eq!(known.get(alice, NOW), Some(said.clone()));
        assert!(!known.hear(alice, &Presence { state: "tired".into(), ..said }, NOW).changed);
        assert_eq!(known.expire(NOW + REMOTE_EXPIRY_MS + 5).changed, [alice]);
        assert_eq!(shown(&known, NOW), "offline");
    }
}
