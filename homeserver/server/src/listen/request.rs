//! One request: its span, who sent it, its time and outcome, and what happens when a handler panics.

use std::{
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use client_api::ClientAddress;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use tower::ServiceExt;
use tracing::Instrument;

use super::{Listener, body::TimedBody};
use crate::{configuration::Network, doors::json};

/// Sent by proxies: a list of addresses, each added by the proxy that the next one connected to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Longer chains of proxies are junk.
const FORWARDED_HOPS_MAX: usize = 32;

/// Answers a request.
pub(super) async fn answer(listener: Arc<Listener>, peer: SocketAddr, request: Request<TimedBody>) -> Response<Body> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    // The doors fill in who asks.
    let span = tracing::info_span!(
        "request",
        request.id = number,
        listener = listener.name,
        user.id = tracing::field::Empty,
        device.id = tracing::field::Empty,
        origin = tracing::field::Empty,
    );
    let started = Instant::now();
    let endpoint = if request.uri().path().ends_with("/sync") { "sync" } else { "other" };
    let method = request.method().clone();
    let response = handle(&listener, peer, request).instrument(span.clone()).await;
    let (took, status) = (started.elapsed(), response.status());
    measure(listener.name, endpoint, status, took);
    tracing::debug!(parent: &span, %method, status = status.as_u16(), took_ms = took.as_millis() as u64, "answered");
    response
}

async fn handle(listener: &Listener, peer: SocketAddr, request: Request<TimedBody>) -> Response<Body> {
    let mut request = request.map(Body::new);
    let address = client_address(peer.ip(), request.headers(), &listener.trusted_proxies);
    request.extensions_mut().insert(ClientAddress(address));
    let router = listener.doors.for_path(request.uri().path());
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => after_panic(listener.name),
    }
}

/// The panic itself was logged where it happened; nothing of it goes out.
fn after_panic(listener: &'static str) -> Response<Body> {
    metrics::counter!("http_panics_total", "listener" => listener).increment(1);
    let body = serde_json::json!({ "errcode": "M_UNKNOWN", "error": "Internal server error" });
    json(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn measure(listener: &'static str, endpoint: &'static str, status: StatusCode, took: Duration) {
    let class = match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    };
    metrics::counter!("http_requests_total", "listener" => listener, "status" => class).increment(1);
    metrics::histogram!("http_request_duration_seconds", "listener" => listener, "endpoint" => endpoint).record(took);
}

/// Who sent the request: the peer, or behind trusted proxies the last address that is not one of them. What stands
/// further left was written by that address and may be a lie.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[Network]) -> IpAddr {
    let trusted = |address: IpAddr| trusted_proxies.iter().any(|proxy| proxy.contains(address));
    let mut believed = peer.to_canonical();
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(FORWARDED_HOPS_MAX);
    while trusted(believed) {
        let Some(hop) = hops.next().and_then(hop_address) else { break };
        believed = hop;
    }
    believed
}

/// Some proxies add the port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let proxies: Vec<Network> = ["10.0.0.0/8", "::1"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn s_105_who_is_believed() {
        let many = "192.0.2.1,".repeat(10_000);
        let table: &[(&str, &[&str], &str)] = &[
            // Nobody but a trusted proxy is believed.
            ("203.0.113.5", &["192.0.2.1"], "203.0.113.5"),
            ("::ffff:203.0.113.5", &["192.0.2.1"], "203.0.113.5"),
            // The proxy saw this one.
            ("10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("::1", &["2001:db8::7"], "2001:db8::7"),
            // What the client wrote itself stands on the left.
            ("10.0.0.1", &["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
            // A chain of trusted proxies.
            ("10.0.0.1", &["198.51.100.9, 192.0.2.1, 10.2.3.4"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1", "10.2.3.4"], "192.0.2.1"),
            // With a port.
            ("10.0.0.1", &["192.0.2.1:1234"], "192.0.2.1"),
            ("10.0.0.1", &["[2001:db8::7]:1234"], "2001:db8::7"),
            // Junk and a missing header: the nearest that is known.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, junk, 10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1", &["\u{e9}"], "10.0.0.1"),
            ("10.0.0.1", &[&many], "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in table {
            let shown: Vec<&str> = forwarded.iter().map(|line| &line[..line.len().min(60)]).collect();
            assert_eq!(address(peer, forwarded), *expected, "{peer} {shown:?}");
        }
    }
}
