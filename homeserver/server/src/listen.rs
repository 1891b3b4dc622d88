//! Listeners: who may connect, and how many at once. [`connection`] is what happens on one connection.

mod activity;
mod body;
mod connection;
mod limits;
mod long_wait;
mod places;
mod request;
mod write_timeout;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use self::limits::Limits;
use self::places::Places;
use crate::{configuration::Network, doors::Doors, stopping::Stopping, tls::Certificate};

/// The first pause after the system refused to hand out a connection, as it does when no file descriptor is free.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);

/// The longest such pause: somebody waits at the other end.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is served at one address.
#[derive(Clone)]
pub struct Listener {
    /// For logs and metrics: `client`, `federation` or `metrics`.
    pub name: &'static str,
    /// Who answers.
    pub doors: Doors,
    /// Present where TLS is spoken.
    pub certificate: Option<Certificate>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[Network]>,
    /// How patient it is.
    pub limits: Limits,
}

impl Listener {
    /// Serves until it is time to stop, then finishes what is in flight, for at most [`Limits::drain_timeout`].
    pub async fn serve(self, socket: TcpListener, stopping: Stopping) {
        let listener = Arc::new(self);
        let places = Places::new(&listener);
        let mut connections = JoinSet::new();
        let mut pause = ACCEPT_PAUSE_MIN;
        let has_room = |connections: &JoinSet<()>| connections.len() < listener.limits.connections_max;
        loop {
            tokio::select! {
                biased;
                () = stopping.asked() => break,
                Some(_) = connections.join_next() => {}
                accepted = socket.accept(), if has_room(&connections) => match accepted {
                    Ok((stream, peer)) => {
                        pause = ACCEPT_PAUSE_MIN;
                        open(&listener, &places, &mut connections, stream, peer, &stopping);
                    }
                    Err(error) => refused(&listener, &error, &mut pause).await,
                },
            }
        }
        drop(socket);
        drain(&listener, connections).await;
    }
}

fn open(
    listener: &Arc<Listener>,
    places: &Arc<Places>,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: &Stopping,
) {
    let Some(place) = places.take(peer.ip()) else {
        metrics::counter!("http_connections_refused_total", "listener" => listener.name).increment(1);
        tracing::debug!(listener = listener.name, peer = %peer.ip(), "too many connections from one address");
        return;
    };
    let (listener, stopping) = (listener.clone(), stopping.clone());
    connections.spawn(async move {
        connection::serve(listener, stream, peer, stopping).await;
        drop(place);
    });
}

/// A connection that was given up while it waited is nobody's trouble; all else (no free file descriptor, no memory)
/// passes only with time.
async fn refused(listener: &Listener, error: &io::Error, pause: &mut Duration) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    metrics::counter!("http_accept_errors_total", "listener" => listener.name).increment(1);
    if *pause == ACCEPT_PAUSE_MIN {
        tracing::warn!(listener = listener.name, %error, "cannot accept connections; trying again");
    }
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(ACCEPT_PAUSE_MAX);
}

async fn drain(listener: &Listener, mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(listener.limits.drain_timeout, all).await.is_err() {
        tracing::warn!(listener = listener.name, open = connections.len(), "closing connections that are still busy");
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r_34_pauses_grow_when_no_descriptor_is_free_and_only_then() {
        const NO_FREE_DESCRIPTOR: i32 = 24;
        let listener = Listener {
            name: "test",
            doors: Doors::new(axum::Router::new()),
            certificate: None,
            trusted_proxies: Arc::new([]),
            limits: Limits::default(),
        };
        let mut pause = ACCEPT_PAUSE_MIN;
        refused(&listener, &io::ErrorKind::ConnectionAborted.into(), &mut pause).await;
        assert_eq!(pause, ACCEPT_PAUSE_MIN);
        for _ in 0..3 {
            let before = pause;
            refused(&listener, &io::Error::from_raw_os_error(NO_FREE_DESCRIPTOR), &mut pause).await;
            assert_eq!(pause, before * 2);
        }
        pause = ACCEPT_PAUSE_MAX * 3 / 4;
        refused(&listener, &io::Error::from_raw_os_error(NO_FREE_DESCRIPTOR), &mut pause).await;
        assert_eq!(pause, ACCEPT_PAUSE_MAX);
    }
}
