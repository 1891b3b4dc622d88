//! Whose keys are believed, for what, for how long, and how often they are asked for.

mod notary;
mod own;
mod validity;
mod weak;

use std::sync::Arc;

use futures_util::future::join_all;
use outbound::VerifyError;
use ruma::{RoomVersionId, ServerName, server_name, signatures::Verified};
use serde_json::json;

use crate::support::{
    Answer, Bench, DAY_MS, START_MS, Wire, event, event_object, key, object, ok, rules, statement, unreachable,
};

const V11: RoomVersionId = RoomVersionId::V11;

fn there() -> &'static ServerName {
    server_name!("there.test")
}

/// A wire on which that server states its keys as given, and nobody else answers.
fn stating(server: &'static ServerName, statement: ruma::CanonicalJsonObject) -> Arc<Wire> {
    Wire::new(move |destination, request| states(destination, request, server, &statement))
}

fn states(
    destination: &ServerName,
    request: &http::Request<bytes::Bytes>,
    server: &ServerName,
    statement: &ruma::CanonicalJsonObject,
) -> Answer {
    let asked = destination == server && request.uri().path() == "/_matrix/key/v2/server";
    if asked { ok(statement) } else { Err(unreachable()) }
}

async fn verify(bench: &Bench, pdu: &rules::Pdu, version: &RoomVersionId) -> Result<Verified, VerifyError> {
    bench.federation.key_ring().verify_event(&event_object(pdu), &rules(version)).await
}

#[tokio::test]
async fn an_event_is_verified_with_a_fetched_key() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let pdu = event(&theirs, &V11, START_MS, "hello");
    assert_eq!(verify(&bench, &pdu, &V11).await.unwrap(), Verified::All);

    let mut changed = event_object(&pdu);
    changed.insert("content".to_owned(), object(json!({ "body": "other" })).into());
    let verified = bench.federation.key_ring().verify_event(&changed, &rules(&V11)).await.unwrap();
    assert_eq!(verified, Verified::Signatures, "the content is not covered by the signature, only by the hash");

    let mut forged = event_object(&pdu);
    forged.insert("origin_server_ts".to_owned(), ruma::Int::new_saturating(START_MS as i64 - 1).into());
    let refused = bench.federation.key_ring().verify_event(&forged, &rules(&V11)).await;
    assert!(matches!(refused, Err(VerifyError::Signature(_))), "{refused:?}");
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn many_who_need_a_key_share_one_fetch() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let pdus: Vec<_> = (0..20).map(|index| event(&theirs, &V11, START_MS, &format!("{index}"))).collect();
    let verified = join_all(pdus.iter().map(|pdu| verify(&bench, pdu, &V11))).await;
    assert!(verified.iter().all(Result::is_ok));
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let pdu = event(&theirs, &V11, START_MS, "hello");
    verify(&bench, &pdu, &V11).await.unwrap();
    bench.wire.set(|_, _| Err(unreachable()));
    let federation = bench.restarted();
    federation.key_ring().verify_event(&event_object(&pdu), &rules(&V11)).await.unwrap();
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn s_099_a_server_without_keys_is_asked_less_and_less() {
    let bench = Bench::new(Wire::dead()).await;
    let pdu = event(&key(there(), "1", 10), &V11, START_MS, "hello");
    for _ in 0..50 {
        assert!(matches!(verify(&bench, &pdu, &V11).await, Err(VerifyError::NoKey(_))));
    }
    assert_eq!(bench.wire.count(), 1);
    bench.clock.advance(20_000);
    verify(&bench, &pdu, &V11).await.unwrap_err();
    assert_eq!(bench.wire.count(), 2);
    for _ in 0..(DAY_MS / 60_000) {
        bench.clock.advance(60_000);
        verify(&bench, &pdu, &V11).await.unwrap_err();
    }
    let asked = bench.wire.count();
    assert!((90..110).contains(&asked), "asked {asked} times in a day, not about every quarter of an hour");
}

#[tokio::test]
async fn a_new_key_is_found_soon() {
    let (old, new) = (key(there(), "1", 10), key(there(), "2", 20));
    let bench = Bench::new(stating(there(), statement(&old, START_MS + DAY_MS, &[]))).await;
    verify(&bench, &event(&old, &V11, START_MS, "hello"), &V11).await.unwrap();
    let restated = statement(&new, START_MS + DAY_MS, &[(&old, START_MS + 1_000)]);
    bench.wire.set(move |destination, request| states(destination, request, there(), &restated));
    bench.clock.advance(16_000);
    verify(&bench, &event(&new, &V11, START_MS + 16_000, "hello"), &V11).await.unwrap();
    // The old one is out of use from now on, even though it was said to be valid for longer.
    verify(&bench, &event(&old, &V11, START_MS + 1_000, "before"), &V11).await.unwrap();
    let after = verify(&bench, &event(&old, &V11, START_MS + 1_001, "after"), &V11).await;
    assert!(matches!(after, Err(VerifyError::NoKey(_))), "{after:?}");
}

#[tokio::test]
async fn a_batch_is_fetched_once_per_server() {
    let servers: Vec<ruma::OwnedServerName> =
        (0..30).map(|index| ServerName::parse(format!("s{index}.test")).unwrap()).collect();
    let keys: Vec<_> = servers.iter().map(|server| key(server, "1", server.as_bytes()[1])).collect();
    let statements: Vec<_> = keys.iter().map(|key| statement(key, START_MS + DAY_MS, &[])).collect();
    let names = servers.clone();
    let bench = Bench::new(Wire::new(move |destination, _| {
        let index = names.iter().position(|name| name == destination).unwrap();
        ok(&statements[index])
    }))
    .await;
    let pdus: Vec<_> = keys.iter().flat_map(|key| [1, 2].map(|n| event(key, &V11, START_MS, &n.to_string()))).collect();
    let objects: Vec<_> = pdus.iter().map(event_object).collect();
    let mut needs = outbound::KeyNeeds::default();
    for object in &objects {
        needs.add(object, &rules(&V11));
    }
    bench.federation.key_ring().prefetch(needs).await;
    assert_eq!(bench.wire.count(), 30);
    for object in &objects {
        bench.federation.key_ring().verify_event(object, &rules(&V11)).await.unwrap();
    }
    assert_eq!(bench.wire.count(), 30);
}

#[tokio::test]
async fn json_that_is_not_an_event_is_verified() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let mut signed = object(json!({ "mxid": "@a:there.test" }));
    theirs.sign_json(&mut signed).unwrap();
    // Others may have signed it too.
    key(server_name!("else.test"), "1", 30).sign_json(&mut signed).unwrap();
    bench.federation.key_ring().verify_json(there(), &signed).await.unwrap();
    let else_signed = bench.federation.key_ring().verify_json(server_name!("else.test"), &signed).await;
    assert!(matches!(else_signed, Err(VerifyError::NoKey(_))), "{else_signed:?}");
    signed.insert("mxid".to_owned(), "@b:there.test".into());
    let changed = bench.federation.key_ring().verify_json(there(), &signed).await;
    assert!(matches!(changed, Err(VerifyError::Signature(_))), "{changed:?}");
}
