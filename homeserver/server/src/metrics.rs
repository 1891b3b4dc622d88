//! What Prometheus collects.

use std::{convert::Infallible, fmt::Write, sync::OnceLock, time::Duration};

use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// From a cached answer to a long poll.
const SECONDS: &[f64] = &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Sizes of batches and the like.
const NUMBERS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

/// Histograms keep single observations until they are tidied up.
const TIDY_INTERVAL: Duration = Duration::from_secs(5);

/// Starts collecting; later calls return the same handle.
pub(crate) fn start() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets(NUMBERS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS))
                .expect("the lists of buckets are not empty")
                .build_recorder();
            let handle = recorder.handle();
            // Whoever embeds this server may collect metrics in another way.
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics are collected by somebody else");
            }
            handle
        })
        .clone()
}

/// Keeps the memory that histograms take bounded. Never ends.
pub(crate) async fn tidy_up(handle: PrometheusHandle) -> Infallible {
    loop {
        tokio::time::sleep(TIDY_INTERVAL).await;
        handle.run_upkeep();
    }
}

/// `/metrics`.
pub(crate) fn router(handle: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(async move || render(&handle)))
}

fn render(handle: &PrometheusHandle) -> Response {
    let mut text = handle.render();
    write_process_metrics(&mut text);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// What the kernel knows about this process; left out where there is no /proc.
fn write_process_metrics(text: &mut String) {
    let measured = [
        ("process_resident_memory_bytes", "Memory in use.", resident_memory_bytes()),
        ("process_open_fds", "Open files and connections.", open_files()),
        ("process_max_fds", "How many files and connections may be open.", crate::open_files::max()),
    ];
    for (name, help, value) in measured {
        if let Some(value) = value {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n\n");
        }
    }
}

fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

fn open_files() -> Option<u64> {
    std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64)
}
