//! Every call this homeserver makes to application services: bridges, bots, and whatever else the operator has
//! registered.
//!
//! A [`Registration`] is what a service's file says. [`Services`] holds them all, knows whose a user, an alias or a
//! token is, and makes calls: transactions, queries, pings. What is said in a transaction, and when, is the engine's.
//!
//! Spec: <https://spec.matrix.org/v1.19/application-service-api/>

mod calls;
mod namespace;
mod registration;
mod services;

pub use self::{
    calls::{Answer, CallError, Protocol},
    namespace::Namespace,
    registration::{Registration, RegistrationError},
    services::{Service, Services, ServicesOptions, conflicts},
};
