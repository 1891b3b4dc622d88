//! What is done to a homeserver. Each scenario makes its own users and rooms, so that they can run in any order.

mod accounts;
mod delivery;
mod history;
mod idle;
mod join;
mod large_rooms;
mod rooms;
mod send;
mod services;
mod slow;
mod sync;

use std::{future::Future, pin::Pin};

use faults::Client;
use futures_util::future::join_all;

use crate::{figures::Figure, target::Target};

/// How large everything is.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// By how much the numbers of a scenario are divided.
    pub(crate) down: u32,
    /// How many members a large room has, if that was said.
    pub(crate) members: Option<usize>,
    /// How many events a long history has, if that was said.
    pub(crate) events: Option<usize>,
}

impl Scale {
    /// So many, or fewer.
    pub(crate) fn of(self, count: usize) -> usize {
        (count / self.down as usize).max(1)
    }

    /// So many members, unless another number was said.
    pub(crate) fn members(self, count: usize) -> usize {
        self.members.unwrap_or_else(|| self.of(count))
    }

    /// So many events, unless another number was said.
    pub(crate) fn events(self, count: usize) -> usize {
        self.events.unwrap_or_else(|| self.of(count))
    }
}

type Run = for<'a> fn(&'a Target, Scale) -> Pin<Box<dyn Future<Output = Vec<Figure>> + 'a>>;

/// Something that is done to a homeserver.
pub(crate) struct Scenario {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    /// Does it.
    pub(crate) run: Run,
}

/// Those that are run if none is named, in the order of the table.
pub(crate) static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "send",
        title: "send: 20 users, 10 rooms, 8 at once, 1,000 messages",
        run: |target, scale| {
            Box::pin(send::send(target, send::Size { users: 20, rooms: 10, at_once: 8, messages: scale.of(1000) }))
        },
    },
    Scenario {
        name: "send-many",
        title: "send: 64 users, 20 rooms, 64 at once, 3,000 messages",
        run: |target, scale| {
            Box::pin(send::send(target, send::Size { users: 64, rooms: 20, at_once: 64, messages: scale.of(3000) }))
        },
    },
    Scenario {
        name: "send-one-room",
        title: "send: 64 users, one room, 64 at once, 3,000 messages",
        run: |target, scale| {
            Box::pin(send::send(target, send::Size { users: 64, rooms: 1, at_once: 64, messages: scale.of(3000) }))
        },
    },
    Scenario {
        name: "delivery",
        title: "delivery: 5 messages a second to 20 users who wait in `/sync`, 10 rooms, 100 messages",
        run: |target, scale| Box::pin(delivery::delivery(target, scale)),
    },
    Scenario {
        name: "fan-out",
        title: "fan-out: 100 messages, one after the other, to 100 users who wait in `/sync`, one room",
        run: |target, scale| Box::pin(delivery::fan_out(target, scale)),
    },
    Scenario {
        name: "sync-initial",
        title: "initial sync: 50 rooms of 30 messages",
        run: |target, scale| Box::pin(sync::initial(target, scale)),
    },
    Scenario {
        name: "sync-idle",
        title: "sync with nothing new, 50 rooms, 4 at once",
        run: |target, scale| Box::pin(sync::idle(target, scale)),
    },
    Scenario {
        name: "sliding",
        title: "sliding sync: first window of 20 of 50 rooms",
        run: |target, scale| Box::pin(sync::sliding(target, scale)),
    },
    Scenario {
        name: "history",
        title: "history: 2,000 messages in pages of 100",
        run: |target, scale| Box::pin(history::history(target, scale)),
    },
    Scenario {
        name: "create-room",
        title: "create room, 4 at once",
        run: |target, scale| Box::pin(rooms::create(target, scale)),
    },
    Scenario {
        name: "accounts",
        title: "register, 4 at once (with a password hash made cheap)",
        run: |target, scale| Box::pin(accounts::register(target, scale)),
    },
    Scenario {
        name: "idle-connections",
        title: "10,000 connections of 1,000 users that wait in `/sync`, one room, and hear of 5 messages",
        run: |target, scale| Box::pin(idle::connections(target, scale)),
    },
    Scenario {
        name: "slow-clients",
        title: "send: 8 users, one room, 1,000 messages, beside 5,000 clients that say a byte now and then",
        run: |target, scale| Box::pin(slow::clients(target, scale)),
    },
    Scenario {
        name: "join-large-room",
        title: "join a room of 2,000 members on 10 other servers",
        run: |target, scale| Box::pin(join::large_room(target, scale)),
    },
    Scenario {
        name: "service-away",
        title: "an application service that misses 10,000 messages of 4 kB, and comes back",
        run: |target, scale| Box::pin(services::away(target, scale)),
    },
];

/// Those that are only run when they are named, since they take minutes, and hours beside a server that is much slower.
pub(crate) static LONG_SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "send-long-history",
        title: "send one after the other, in a room of 1,000 events and in one of 1,000,000",
        run: |target, scale| Box::pin(large_rooms::long_history(target, scale)),
    },
    Scenario {
        name: "send-many-members",
        title: "send one after the other, in a room of 10 members and in one of 50,000, of 10 other servers",
        run: |target, scale| Box::pin(large_rooms::many_members(target, scale)),
    },
];

/// Public rooms of the first user that all are in.
async fn shared_rooms(people: &[Client], count: usize) -> Vec<String> {
    let (first, others) = people.split_first().expect("there is somebody");
    let mut rooms = Vec::with_capacity(count);
    for _ in 0..count {
        let room_id = first.create_room().await;
        for some in others.chunks(8) {
            join_all(some.iter().map(|person| person.join(&room_id))).await;
        }
        rooms.push(room_id);
    }
    rooms
}

/// Sends so many messages, many at a time.
async fn fill(person: &Client, room_id: &str, count: usize) {
    const AT_ONCE: usize = 64;
    let send_some = async |first: usize| {
        for number in (first..count).step_by(AT_ONCE) {
            let text = format!("message {number} of those to be read later");
            let sent = person.send(room_id, &format!("fill-{number}"), &text).await;
            assert!(sent.is_some(), "a message was not taken");
        }
    };
    join_all((0..AT_ONCE).map(send_some)).await;
}
