//! The first lines that somebody sees who starts the server.

use std::{fmt::Write, net::SocketAddr};

use crate::{
    configuration::{Loaded, RegistrationMode},
    wiring::reachable,
};

/// Where the server can be reached.
pub(crate) struct Addresses {
    pub(crate) client: SocketAddr,
    pub(crate) federation: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

/// What it is, where its data is, and what to try next.
pub(crate) fn greeting(loaded: &Loaded, backend: &str, addresses: &Addresses, bots: &[String]) -> String {
    let configuration = &loaded.configuration;
    let clients = format!("http://{}", reachable(addresses.client));
    let data = std::path::absolute(&configuration.data_dir).unwrap_or_else(|_| configuration.data_dir.clone());
    let registration = match configuration.registration_mode {
        RegistrationMode::Open if loaded.file.is_none() => "open, since only this machine can connect",
        RegistrationMode::Open => "open to everybody",
        RegistrationMode::Token => "with a registration token",
        RegistrationMode::Closed if loaded.file.is_none() => "closed; --registration open or token opens it",
        RegistrationMode::Closed => "closed",
    };
    let mut lines = vec![
        ("server name", configuration.server_name.to_string()),
        ("data", format!("{} ({backend})", data.display())),
        ("clients", clients.clone()),
    ];
    if let Some(address) = addresses.federation {
        let scheme = if configuration.federation_certificate_file.is_some() { "https" } else { "http" };
        lines.push(("other servers", format!("{scheme}://{}", reachable(address))));
    }
    if let Some(address) = addresses.metrics {
        lines.push(("metrics", format!("http://{}/metrics", reachable(address))));
    }
    lines.push(("registration", registration.to_owned()));
    if let Some(first) = bots.first() {
        lines.push(("buddies", format!("{} bots to chat with, such as {first}", bots.len())));
    }

    let mut text = format!("Nudge {}, a Matrix homeserver, is up.\n\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in lines {
        let _ = writeln!(text, "  {name:<14} {value}");
    }
    let _ = write!(text, "\n{}", next_steps(configuration.registration_mode, &clients));
    text
}

fn next_steps(registration: RegistrationMode, clients: &str) -> String {
    let account = match registration {
        RegistrationMode::Open => format!(
            "Create an account:\n  \
             curl {clients}/_matrix/client/v3/register \\\n    \
             -d '{{\"username\":\"alice\",\"password\":\"curiouser and curiouser\",\"auth\":{{\"type\":\"m.login.dummy\"}}}}'\n"
        ),
        RegistrationMode::Token => {
            "Create an account in a client with your registration token, or on this machine:\n  nudge user create alice\n"
                .to_owned()
        }
        RegistrationMode::Closed => "Create an account:\n  nudge user create alice\n".to_owned(),
    };
    format!(
        "{account}Then point a Matrix client such as Element (https://app.element.io) at {clients} and log in.\n\
         Stop the server with Ctrl-C.\n"
    )
}
