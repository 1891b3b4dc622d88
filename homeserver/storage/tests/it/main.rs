//! The storage, through its interface: every test runs on SQLite, and on PostgreSQL too where `NUDGE_TEST_POSTGRES_URL`
//! names a cluster (see `complement-tests/postgres.sh`), each time on a database of its own.

mod account_data;
mod accounts;
mod aliases;
mod commit;
mod dehydrated_devices;
mod destinations;
mod devices;
mod durability;
mod edus;
mod events;
mod filters;
mod fsck;
mod log;
mod media;
mod memberships;
mod notifications;
mod one_time_keys;
mod partial_states;
mod pushers;
mod receipts;
mod rooms;
mod schema;
mod server_keys;
mod services;
mod set_aside;
mod stage;
mod state;
mod talk;
mod third_party_ids;
mod thread_subscriptions;
mod timeline;
mod transactions;
mod unstorable;
