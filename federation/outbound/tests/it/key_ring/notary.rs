//! Asking notaries, and being one.

use outbound::{KeyQueries, KeyQuery};
use ruma::{OwnedServerName, server_name};

use super::*;
use crate::support::{here, value};

fn notary() -> &'static ServerName {
    server_name!("notary.test")
}

/// A wire on which only a notary answers, with the given `server_keys`.
fn only_notary(server_keys: Vec<ruma::CanonicalJsonObject>) -> Arc<Wire> {
    let own = statement(&key(notary(), "n", 90), START_MS + DAY_MS, &[]);
    Wire::new(move |destination, request| match (destination == notary(), request.uri().path()) {
        (true, "/_matrix/key/v2/server") => ok(&own),
        (true, "/_matrix/key/v2/query") => ok(&json!({ "server_keys": server_keys })),
        _ => Err(unreachable()),
    })
}

fn notarised(mut statement: ruma::CanonicalJsonObject) -> ruma::CanonicalJsonObject {
    key(notary(), "n", 90).sign_json(&mut statement).unwrap();
    statement
}

#[tokio::test]
async fn a_notary_speaks_for_a_server_that_does_not_answer() {
    let theirs = key(there(), "1", 10);
    let wire = only_notary(vec![notarised(statement(&theirs, START_MS + DAY_MS, &[]))]);
    let bench = Bench::with_notaries(wire, vec![notary().to_owned()]).await;
    verify(&bench, &event(&theirs, &V11, START_MS, "hello"), &V11).await.unwrap();
    let asked = bench.wire.sent();
    let query = asked.iter().find(|sent| sent.target == "/_matrix/key/v2/query").unwrap();
    assert_eq!(
        query.json(),
        json!({ "server_keys": { "there.test": { "ed25519:1": { "minimum_valid_until_ts": START_MS } } } })
    );
    assert_eq!(bench.storage.server_keys(there()).await.unwrap(), [], "what a notary says is not stored");
}

#[tokio::test]
async fn s_011_a_notary_must_sign_and_answer_what_was_asked() {
    let (theirs, others) = (key(there(), "1", 10), key(server_name!("else.test"), "1", 20));
    let good = statement(&theirs, START_MS + DAY_MS, &[]);
    let mut by_stranger = good.clone();
    key(notary(), "n", 91).sign_json(&mut by_stranger).unwrap();
    let mut not_by_server = notarised(good.clone());
    if let Some(ruma::CanonicalJsonValue::Object(signatures)) = not_by_server.get_mut("signatures") {
        signatures.remove("there.test");
    }
    for (name, answer) in [
        ("not signed by the notary", good),
        ("signed with another key", by_stranger),
        ("not signed by the server", not_by_server),
    ] {
        let bench = Bench::with_notaries(only_notary(vec![answer]), vec![notary().to_owned()]).await;
        let refused = verify(&bench, &event(&theirs, &V11, START_MS, "hello"), &V11).await;
        assert!(matches!(refused, Err(VerifyError::NoKey(_))), "{name}");
    }
    let unasked = notarised(statement(&others, START_MS + DAY_MS, &[]));
    let bench = Bench::with_notaries(only_notary(vec![unasked]), vec![notary().to_owned()]).await;
    verify(&bench, &event(&theirs, &V11, START_MS, "hello"), &V11).await.unwrap_err();
    bench.wire.set(|_, _| Err(unreachable()));
    verify(&bench, &event(&others, &V11, START_MS, "hello"), &V11).await.unwrap_err();
}

#[tokio::test]
async fn s_011_a_notary_neither_replaces_nor_extends_what_the_server_said() {
    let theirs = key(there(), "1", 10);
    let direct = statement(&theirs, START_MS + 3_600_000, &[]);
    for (name, lie) in [
        ("extends", statement(&theirs, START_MS + 7 * DAY_MS, &[])),
        ("replaces", statement(&key(there(), "1", 66), START_MS + 7 * DAY_MS, &[])),
    ] {
        let own = statement(&key(notary(), "n", 90), START_MS + 10 * DAY_MS, &[]);
        let (direct, lie) = (direct.clone(), notarised(lie));
        let mut is_up = true;
        let wire = Wire::new(move |destination, request| {
            let by_server = destination == there() && std::mem::replace(&mut is_up, false);
            match (by_server, destination == notary(), request.uri().path()) {
                (true, ..) => ok(&direct),
                (_, true, "/_matrix/key/v2/server") => ok(&own),
                (_, true, _) => ok(&json!({ "server_keys": [lie] })),
                _ => Err(unreachable()),
            }
        });
        let bench = Bench::with_notaries(wire, vec![notary().to_owned()]).await;
        verify(&bench, &event(&theirs, &V11, START_MS, "hello"), &V11).await.unwrap();
        bench.clock.advance(DAY_MS);
        let later = event(&theirs, &V11, START_MS + DAY_MS, "later");
        assert!(matches!(verify(&bench, &later, &V11).await, Err(VerifyError::NoKey(_))), "{name}");
        let forged = event(&key(there(), "1", 66), &V11, START_MS, "forged");
        verify(&bench, &forged, &V11).await.unwrap_err();
        assert!(bench.wire.sent().iter().any(|sent| sent.target.ends_with("/query")), "{name}: the notary was asked");
        verify(&bench, &event(&theirs, &V11, START_MS, "still"), &V11).await.unwrap();
    }
}

#[tokio::test]
async fn the_server_corrects_what_a_notary_said() {
    let (real, invented) = (key(there(), "1", 10), key(there(), "1", 66));
    let wire = only_notary(vec![notarised(statement(&invented, START_MS + DAY_MS, &[]))]);
    let bench = Bench::with_notaries(wire, vec![notary().to_owned()]).await;
    verify(&bench, &event(&invented, &V11, START_MS, "lie"), &V11).await.unwrap();
    let truth = statement(&real, START_MS + 3 * DAY_MS, &[]);
    bench.wire.set(move |destination, request| states(destination, request, there(), &truth));
    bench.clock.advance(2 * DAY_MS);
    verify(&bench, &event(&real, &V11, START_MS + 2 * DAY_MS, "truth"), &V11).await.unwrap();
    verify(&bench, &event(&invented, &V11, START_MS, "lie again"), &V11).await.unwrap_err();
}

#[tokio::test]
async fn a_large_batch_is_asked_of_the_notary_first() {
    let servers: Vec<OwnedServerName> =
        (0..40).map(|index| ServerName::parse(format!("s{index}.test")).unwrap()).collect();
    let keys: Vec<_> = servers.iter().map(|server| key(server, "1", server.as_bytes()[1])).collect();
    let answer = keys.iter().map(|key| notarised(statement(key, START_MS + DAY_MS, &[]))).collect();
    let bench = Bench::with_notaries(only_notary(answer), vec![notary().to_owned()]).await;
    let objects: Vec<_> = keys.iter().map(|key| event_object(&event(key, &V11, START_MS, "hello"))).collect();
    let mut needs = outbound::KeyNeeds::default();
    for object in &objects {
        needs.add(object, &rules(&V11));
    }
    bench.federation.key_ring().prefetch(needs).await;
    assert_eq!(bench.wire.count(), 2, "the notary's own keys, and one question");
    for object in &objects {
        bench.federation.key_ring().verify_event(object, &rules(&V11)).await.unwrap();
    }
    assert_eq!(bench.wire.count(), 2);
}

fn query(servers: impl IntoIterator<Item = OwnedServerName>) -> KeyQueries {
    servers.into_iter().map(|server| (server, KeyQuery::default())).collect()
}

#[tokio::test]
async fn as_a_notary_we_sign_what_a_server_says() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let ring = bench.federation.key_ring();
    let answer = ring.notary_response(query([there().to_owned(), here().to_owned()])).await.unwrap();
    assert_eq!(answer.len(), 2);
    assert_eq!(value(&answer[0])["server_name"], "here.test");
    assert_eq!(value(&answer[1])["server_name"], "there.test");
    ring.verify_json(there(), &answer[1]).await.unwrap();
    ring.verify_json(here(), &answer[1]).await.unwrap();
}

#[tokio::test]
async fn s_012_as_a_notary_we_fetch_once_and_answer_a_bounded_number() {
    let bench = Bench::new(Wire::dead()).await;
    let servers: Vec<OwnedServerName> =
        (0..10_000).map(|index| ServerName::parse(format!("s{index}.test")).unwrap()).collect();
    for _ in 0..3 {
        assert!(bench.federation.key_ring().notary_response(query(servers.clone())).await.unwrap().is_empty());
    }
    assert_eq!(bench.wire.count(), 100);
    let key_ids = (0..10_000).map(|index| format!("ed25519:{index}").as_str().try_into().unwrap()).collect();
    let many_keys = KeyQueries::from([(there().to_owned(), KeyQuery { key_ids, valid_until_ms: Some(0) })]);
    bench.federation.key_ring().notary_response(many_keys).await.unwrap();
    assert_eq!(bench.wire.count(), 101);
}

#[tokio::test]
async fn s_012_a_server_is_asked_again_only_when_its_statement_is_too_old() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let ring = bench.federation.key_ring();
    let asking = |minimum_ms| {
        let query = KeyQuery { key_ids: vec!["ed25519:1".try_into().unwrap()], valid_until_ms: Some(minimum_ms) };
        KeyQueries::from([(there().to_owned(), query)])
    };
    for _ in 0..5 {
        bench.clock.advance(60_000);
        assert_eq!(ring.notary_response(asking(START_MS + DAY_MS)).await.unwrap().len(), 1);
    }
    assert_eq!(bench.wire.count(), 1);
    bench.clock.advance(60_000);
    assert_eq!(ring.notary_response(asking(START_MS + 2 * DAY_MS)).await.unwrap().len(), 1, "the best there is");
    assert_eq!(bench.wire.count(), 2);
}
