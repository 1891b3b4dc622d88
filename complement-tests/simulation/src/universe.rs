//! A universe: servers, users, rooms, a clock and a network, all out of one seed.

use std::{collections::BTreeSet, sync::Arc};

use engine::{Engine, NewDevice, RegisterCommand, Requester};
use rules::world::World;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedServerName, UserId};

use crate::{
    Failure,
    client::Client,
    clock::HandClock,
    dice::{Dice, SeededChance},
    homeserver::Homeserver,
    network::{Network, Weather},
    trace::Trace,
};

/// How the users and the network of a universe are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Character {
    /// How much users talk, compared to what else they do.
    pub(crate) talk: u32,
    /// How much they change memberships and power.
    pub(crate) quarrel: u32,
    /// How often connections are cut.
    pub(crate) cuts: u32,
    /// How eagerly queues are flushed.
    pub(crate) haste: u32,
    /// What the network does to single requests.
    pub(crate) weather: Weather,
    /// Whether databases are files, so that servers can be restarted.
    pub(crate) files: bool,
}

/// A user with one device.
pub(crate) struct User {
    /// The number of the user's server.
    pub(crate) server: usize,
    pub(crate) requester: Requester,
    pub(crate) client: Client,
}

/// An event that a server said it has taken.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// The number of the server.
    pub(crate) server: usize,
    /// The number of the room.
    pub(crate) room: usize,
    pub(crate) event_id: OwnedEventId,
}

/// A message with its transaction id.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) user: usize,
    pub(crate) room: usize,
    pub(crate) transaction_id: String,
    pub(crate) event_id: OwnedEventId,
}

pub(crate) struct Universe {
    pub(crate) trace: Trace,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) network: Network,
    pub(crate) dice: Dice,
    pub(crate) character: Character,
    pub(crate) servers: Vec<Homeserver>,
    pub(crate) users: Vec<User>,
    pub(crate) rooms: Vec<OwnedRoomId>,
    pub(crate) promises: Vec<Promise>,
    pub(crate) sent: Vec<Sent>,
    /// Events that a server has set aside at some time, by its number.
    pub(crate) set_aside: BTreeSet<(usize, OwnedEventId)>,
    /// Servers that an access control list of a room denied at some time, or was to deny.
    pub(crate) denied: BTreeSet<(usize, OwnedServerName)>,
    /// Counts whatever needs a name of its own.
    pub(crate) counter: u64,
}

impl Character {
    fn throw(dice: &mut Dice) -> Self {
        let weather = match dice.below(4) {
            0 => Weather::default(),
            1 => Weather { duplicates_percent: 10, delays_percent: 30, ..Weather::default() },
            2 => {
                Weather { lost_requests_percent: 5, lost_answers_percent: 5, duplicates_percent: 5, delays_percent: 10 }
            }
            _ => Weather {
                lost_requests_percent: 15,
                lost_answers_percent: 15,
                duplicates_percent: 15,
                delays_percent: 20,
            },
        };
        Self {
            talk: *dice.pick(&[1, 1, 3]),
            quarrel: *dice.pick(&[1, 2, 4]),
            cuts: *dice.pick(&[0, 1, 3]),
            haste: *dice.pick(&[1, 1, 3]),
            weather,
            files: dice.percent(25),
        }
    }
}

impl Universe {
    /// The universe of a seed, before anything has happened in it.
    pub(crate) async fn new(seed: u64, trace: Trace) -> Result<Self, Failure> {
        let mut dice = Dice::new(seed, "simulator");
        let character = Character::throw(&mut dice);
        let clock = Arc::new(HandClock::new());
        let network = Network::new(seed, clock.clone(), trace.clone());
        let count = dice.between(2, 4);
        trace.note(format!("seed {seed}: {count} servers, {character:?}"));
        let mut servers = Vec::with_capacity(count);
        for number in 1..=count {
            let name: OwnedServerName = format!("s{number}.test").try_into().map_err(Failure::new)?;
            let chance = Arc::new(SeededChance::new(seed, name.as_str()));
            let world = World { clock: clock.clone(), chance };
            let directory = character.files.then(tempfile::tempdir).transpose().map_err(Failure::new)?;
            servers.push(Homeserver::start(name, network.clone(), world, directory).await?);
        }
        let mut universe = Self {
            trace,
            clock,
            network,
            dice,
            character,
            servers,
            users: Vec::new(),
            rooms: Vec::new(),
            promises: Vec::new(),
            sent: Vec::new(),
            set_aside: BTreeSet::new(),
            denied: BTreeSet::new(),
            counter: 0,
        };
        universe.register_users().await?;
        Ok(universe)
    }

    async fn register_users(&mut self) -> Result<(), Failure> {
        for server in 0..self.servers.len() {
            for number in 0..self.dice.between(1, 3) {
                let name = ["alice", "bob", "carol"][number];
                let requester = register(&self.servers[server].engine, name).await?;
                let mut client = Client::new(self.dice.percent(50));
                client.sync(&self.servers[server].engine, &requester, &mut self.dice).await?;
                self.users.push(User { server, requester, client });
            }
        }
        Ok(())
    }

    /// The engine of a user's server.
    pub(crate) fn engine_of(&self, user: usize) -> &Engine {
        &self.servers[self.users[user].server].engine
    }

    /// A user's device.
    pub(crate) fn requester(&self, user: usize) -> &Requester {
        &self.users[user].requester
    }

    /// A user's id.
    pub(crate) fn user_id(&self, user: usize) -> &UserId {
        &self.users[user].requester.user_id
    }

    /// Whether a server has said that it does not take an event, or has set it aside for want of what it builds upon.
    pub(crate) fn has_not_taken(&self, server: usize, event_id: &EventId) -> bool {
        let waited = self.set_aside.contains(&(server, event_id.to_owned()));
        waited || self.network.has_refused(self.servers[server].name(), event_id)
    }

    /// Notes what the servers have set aside by now.
    pub(crate) async fn note_set_aside(&mut self) -> Result<(), Failure> {
        for (number, server) in self.servers.iter().enumerate() {
            for room_id in &self.rooms {
                let waiting = server.storage().events_set_aside(room_id).await?;
                self.set_aside.extend(waiting.into_iter().map(|waiting| (number, waiting.event_id)));
            }
        }
        Ok(())
    }

    /// A number that was not used before.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Lets a user's client sync once.
    pub(crate) async fn sync(&mut self, user: usize) -> Result<(), Failure> {
        let User { server, requester, client } = &mut self.users[user];
        let engine = &self.servers[*server].engine;
        client.sync(engine, requester, &mut self.dice).await
    }
}

async fn register(engine: &Engine, name: &str) -> Result<Requester, Failure> {
    let user_id = engine.registration_check(Some(name)).await?;
    let device = NewDevice { device_id: Some("DEVICE".into()), ..NewDevice::default() };
    let command = RegisterCommand {
        user_id: user_id.clone(),
        password: None,
        device,
        registration_token: None,
        guest_access_token: None,
        addresses: Vec::new(),
        inhibit_login: false,
    };
    engine.register(command).await?;
    Ok(Requester { user_id, device_id: "DEVICE".into() })
}
