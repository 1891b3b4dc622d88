//! Where a server is, by the steps of the specification.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use outbound::{
    TransportError,
    discovery::{Discovery, well_known::FetchWellKnown},
    egress::{
        Endpoint, Route,
        names::{Names, Service},
    },
};
use ruma::ServerName;

use crate::support::{HOUR_MS, TestClock, here, world};

const MINUTE_MS: u64 = 60_000;

#[derive(Default)]
struct Table {
    services: HashMap<&'static str, Result<Vec<Service>, String>>,
    lookups: AtomicUsize,
}

impl Names for Table {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        unreachable!("discovery leaves this to the client")
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Service>, String>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { self.services.get(name).cloned().unwrap_or(Ok(vec![])) })
    }
}

fn service(priority: u16, weight: u16, hostname: &str, port: u16) -> Service {
    Service { priority, weight, hostname: hostname.to_owned(), port }
}

/// What is behind a `.well-known` URL, and how often it was asked for.
type WellKnown = Arc<dyn Fn(&str) -> Option<http::Response<Bytes>> + Send + Sync>;

struct Bench {
    discovery: Discovery,
    names: Arc<Table>,
    fetches: Arc<AtomicUsize>,
    clock: Arc<TestClock>,
}

fn bench(services: Vec<(&'static str, Result<Vec<Service>, String>)>, well_known: WellKnown) -> Bench {
    let (world, clock) = world();
    let names = Arc::new(Table { services: services.into_iter().collect(), lookups: AtomicUsize::new(0) });
    let fetches = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&fetches);
    let fetch: FetchWellKnown = Arc::new(move |hostname| {
        counter.fetch_add(1, Ordering::SeqCst);
        let answer = well_known(&hostname);
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer.ok_or_else(|| TransportError::Unreachable("no web server".to_owned()))
        })
    });
    let discovery = Discovery::new(here().to_owned(), Arc::clone(&names) as Arc<dyn Names>, fetch, world);
    Bench { discovery, names, fetches, clock }
}

impl Bench {
    async fn route(&self, server: &str) -> Result<Route, TransportError> {
        self.discovery.route(<&ServerName>::try_from(server).unwrap()).await
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn no_well_known() -> WellKnown {
    Arc::new(|_| None)
}

fn json(body: &str) -> http::Response<Bytes> {
    http::Response::new(Bytes::copy_from_slice(body.as_bytes()))
}

fn delegating(to: &'static str) -> WellKnown {
    Arc::new(move |hostname| (hostname == "a.test").then(|| json(&format!(r#"{{"m.server": "{to}"}}"#))))
}

fn route(host: &str, certificate_name: &str, endpoints: &[(&str, u16)]) -> Route {
    let endpoints = endpoints.iter().map(|(name, port)| Endpoint::Host { name: (*name).to_owned(), port: *port });
    Route { host: host.to_owned(), certificate_name: certificate_name.to_owned(), endpoints: endpoints.collect() }
}

#[tokio::test]
async fn steps_1_and_2_look_nothing_up() {
    let bench = bench(vec![], no_well_known());
    for (server, certificate_name, port) in [
        ("1.2.3.4", "1.2.3.4", 8448),
        ("1.2.3.4:5", "1.2.3.4", 5),
        ("[2001:db8::1]", "[2001:db8::1]", 8448),
        ("[2001:db8::1]:5", "[2001:db8::1]", 5),
        ("a.test:5", "a.test", 5),
        ("a.test:8448", "a.test", 8448),
        ("a.test:443", "a.test", 443),
    ] {
        let expected = route(server, certificate_name, &[(certificate_name, port)]);
        assert_eq!(bench.route(server).await.unwrap(), expected, "{server}");
    }
    assert_eq!(bench.fetches() + bench.names.lookups.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn step_3_follows_the_delegation() {
    for (delegated, expected) in [
        ("1.2.3.4", route("1.2.3.4", "1.2.3.4", &[("1.2.3.4", 8448)])),
        ("1.2.3.4:5", route("1.2.3.4:5", "1.2.3.4", &[("1.2.3.4", 5)])),
        ("[::2]:5", route("[::2]:5", "[::2]", &[("[::2]", 5)])),
        ("b.test:443", route("b.test:443", "b.test", &[("b.test", 443)])),
        ("b.test", route("b.test", "b.test", &[("b.test", 8448)])),
        ("c.test", route("c.test", "c.test", &[("srv.test", 10)])),
        ("d.test", route("d.test", "d.test", &[("old.test", 11)])),
        ("a.test", route("a.test", "a.test", &[("a.test", 8448)])),
    ] {
        let services = vec![
            ("_matrix-fed._tcp.c.test", Ok(vec![service(1, 1, "srv.test", 10)])),
            ("_matrix._tcp.c.test", Ok(vec![service(1, 1, "wrong.test", 9)])),
            ("_matrix._tcp.d.test", Ok(vec![service(1, 1, "old.test", 11)])),
            ("_matrix._tcp.b.test:443", Ok(vec![service(1, 1, "wrong.test", 9)])),
        ];
        assert_eq!(bench(services, delegating(delegated)).route("a.test").await.unwrap(), expected, "{delegated}");
    }
}

#[tokio::test]
async fn steps_4_to_6_without_delegation() {
    let services = vec![
        ("_matrix-fed._tcp.a.test", Ok(vec![service(1, 1, "srv.test", 10)])),
        ("_matrix._tcp.b.test", Ok(vec![service(1, 1, "old.test", 11)])),
        ("_matrix-fed._tcp.c.test", Err("SERVFAIL".to_owned())),
    ];
    let bench = bench(services, no_well_known());
    for (server, expected) in [
        ("a.test", route("a.test", "a.test", &[("srv.test", 10)])),
        ("b.test", route("b.test", "b.test", &[("old.test", 11)])),
        ("c.test", route("c.test", "c.test", &[("c.test", 8448)])),
        ("d.test", route("d.test", "d.test", &[("d.test", 8448)])),
    ] {
        assert_eq!(bench.route(server).await.unwrap(), expected, "{server}");
    }
}

#[tokio::test]
async fn s_092_service_records() {
    let services = vec![
        (
            "_matrix-fed._tcp.a.test",
            Ok(vec![
                service(20, 0, "last.test", 1),
                service(10, 5, "second.test", 2),
                service(10, 60, "first.test", 3),
                service(10, 1, "", 4),
                service(10, 1, "no-port.test", 0),
            ]),
        ),
        ("_matrix-fed._tcp.b.test", Ok(vec![service(0, 0, "", 0)])),
        ("_matrix._tcp.b.test", Ok(vec![service(0, 0, "wrong.test", 5)])),
    ];
    let bench = bench(services, no_well_known());
    let expected = route("a.test", "a.test", &[("first.test", 3), ("second.test", 2), ("last.test", 1)]);
    assert_eq!(bench.route("a.test").await.unwrap(), expected);
    assert!(matches!(bench.route("b.test").await, Err(TransportError::Unreachable(_))), "it says that there is none");
}

#[tokio::test]
async fn s_091_a_well_known_that_makes_no_sense_is_none() {
    for body in [
        "",
        "<html>",
        "[]",
        "{}",
        r#"{"m.server": 5}"#,
        r#"{"m.server": ""}"#,
        r#"{"m.server": "https://b.test"}"#,
        r#"{"m.server": "b.test/path"}"#,
        r#"{"m.server": "user@b.test"}"#,
        r#"{"m.server": "b.test:0"}"#,
        r#"{"m.server": "b.test:+5"}"#,
        r#"{"m.server": "b.test:65536"}"#,
        r#"{"m.server": "b.test:"}"#,
        r#"{"m.server": " b.test"}"#,
        &format!(r#"{{"m.server": "b.test", "x": "{}"}}"#, "y".repeat(51_200)),
    ] {
        let answer = json(body);
        let bench = bench(vec![], Arc::new(move |_| Some(answer.clone())));
        let expected = route("a.test", "a.test", &[("a.test", 8448)]);
        assert_eq!(bench.route("a.test").await.unwrap(), expected, "{body}");
    }
    for status in [201, 301, 404, 500] {
        let mut answer = json(r#"{"m.server": "b.test:1"}"#);
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        let bench = bench(vec![], Arc::new(move |_| Some(answer.clone())));
        assert_eq!(bench.route("a.test").await.unwrap().host, "a.test", "{status}");
    }
}

#[tokio::test]
async fn s_091_delegation_to_ourselves_is_refused() {
    let refused = bench(vec![], delegating("here.test")).route("a.test").await;
    assert!(matches!(refused, Err(TransportError::Denied(_))), "{refused:?}");
}

#[tokio::test]
async fn s_091_answers_are_remembered() {
    let bench = bench(vec![], delegating("b.test:1"));
    for _ in 0..3 {
        bench.route("a.test").await.unwrap();
    }
    let routes = join_all((0..10).map(|_| bench.route("a.test"))).await;
    assert!(routes.iter().all(Result::is_ok));
    assert_eq!(bench.fetches(), 1);
    bench.clock.advance(24 * HOUR_MS - 1);
    bench.route("a.test").await.unwrap();
    assert_eq!(bench.fetches(), 1);
    bench.clock.advance(1);
    bench.route("a.test").await.unwrap();
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test]
async fn s_091_failures_are_remembered_up_to_an_hour() {
    let bench = bench(vec![], no_well_known());
    let routes = join_all((0..10).map(|_| bench.route("a.test"))).await;
    assert!(routes.iter().all(Result::is_ok));
    assert_eq!(bench.fetches(), 1, "who comes while it is being fetched waits");
    let mut fetches = 1;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        bench.clock.advance(minutes * MINUTE_MS - 1);
        bench.route("a.test").await.unwrap();
        assert_eq!(bench.fetches(), fetches, "before {minutes} minutes");
        bench.clock.advance(1);
        bench.route("a.test").await.unwrap();
        fetches += 1;
        assert_eq!(bench.fetches(), fetches, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn a_delegation_outlives_an_outage_of_the_web_server() {
    let is_up = Arc::new(AtomicUsize::new(1));
    let up = Arc::clone(&is_up);
    let answer: WellKnown =
        Arc::new(move |_| (up.load(Ordering::SeqCst) == 1).then(|| json(r#"{"m.server": "b.test:1"}"#)));
    let bench = bench(vec![], answer);
    assert_eq!(bench.route("a.test").await.unwrap().host, "b.test:1");
    is_up.store(0, Ordering::SeqCst);
    bench.clock.advance(25 * HOUR_MS);
    assert_eq!(bench.route("a.test").await.unwrap().host, "b.test:1");
    assert_eq!(bench.fetches(), 2, "it was asked for again, all the same");
    bench.clock.advance(24 * HOUR_MS);
    assert_eq!(bench.route("a.test").await.unwrap().host, "a.test", "48 hours are the end");
}
