//! What Prometheus collects, where the bots run by themselves. Inside a homeserver it is among what that shows.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::listen;

/// Histograms keep single observations until they are tidied up.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// Shows metrics at an address until it is dropped.
#[derive(Debug)]
pub struct MetricsPage {
    _stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl MetricsPage {
    /// Begins to collect, and shows what is collected.
    pub async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let handle = PrometheusBuilder::new().install_recorder().map_err(std::io::Error::other)?;
        let tidied = handle.clone();
        let page = get(async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()));
        let (stop, stopping) = watch::channel(false);
        let serve = tokio::spawn(listen::serve(listener, Router::new().route("/metrics", page), stopping));
        let tidy = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TIDY_INTERVAL).await;
                tidied.run_upkeep();
            }
        });
        Ok(Self { _stop: stop, tasks: [serve, tidy] })
    }
}

impl Drop for MetricsPage {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
