//! Machines against a key server in memory.

mod accounts;
mod backups;
mod bundles;
mod crashes;
mod hostile;
mod megolm;
mod olm;
mod party;
mod secret_storage;
mod server;
mod stores;
mod trust;
mod verification;
