//! How long a key is good for, and which keys never are.

use ruma::{RoomVersionId, server_name};

use super::*;
use crate::support::HOUR_MS;

const YEAR_3000_MS: u64 = 32_503_680_000_000;

#[tokio::test]
async fn s_009_validity_is_clamped_to_a_week() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, YEAR_3000_MS, &[]))).await;
    let within = event(&theirs, &V11, START_MS + 7 * DAY_MS, "within");
    verify(&bench, &within, &V11).await.unwrap();
    let beyond = event(&theirs, &V11, START_MS + 7 * DAY_MS + HOUR_MS, "beyond");
    assert!(matches!(verify(&bench, &beyond, &V11).await, Err(VerifyError::NoKey(_))));

    // As a request, it needs a key that is valid now.
    let mut signed = object(json!({}));
    theirs.sign_json(&mut signed).unwrap();
    bench.wire.set(|_, _| Err(unreachable()));
    bench.clock.advance(7 * DAY_MS);
    bench.federation.key_ring().verify_json(there(), &signed).await.unwrap();
    bench.clock.advance(1);
    assert!(matches!(bench.federation.key_ring().verify_json(there(), &signed).await, Err(VerifyError::NoKey(_))));
}

#[tokio::test]
async fn s_009_an_event_after_the_validity_is_dropped_from_version_5_on() {
    let theirs = key(there(), "1", 10);
    let valid_until_ms = START_MS + HOUR_MS;
    let bench = Bench::new(stating(there(), statement(&theirs, valid_until_ms, &[]))).await;
    for (version, ts, accepted) in [
        (RoomVersionId::V5, valid_until_ms, true),
        (RoomVersionId::V5, valid_until_ms + 1, false),
        (RoomVersionId::V11, valid_until_ms + 1, false),
        (RoomVersionId::V4, valid_until_ms + 1, true),
    ] {
        let pdu = event(&theirs, &version, ts, "hello");
        assert_eq!(verify(&bench, &pdu, &version).await.is_ok(), accepted, "{version} at {ts}");
    }
}

#[tokio::test]
async fn s_009_an_old_key_verifies_what_is_older_than_its_expiry() {
    let (old, new) = (key(there(), "old", 10), key(there(), "new", 20));
    let expired_ms = START_MS - 100 * DAY_MS;
    let bench = Bench::new(stating(there(), statement(&new, START_MS + DAY_MS, &[(&old, expired_ms)]))).await;
    for (version, ts, accepted) in [
        (RoomVersionId::V11, expired_ms, true),
        (RoomVersionId::V11, expired_ms + 1, false),
        (RoomVersionId::V4, expired_ms, true),
        (RoomVersionId::V4, expired_ms + 1, false),
    ] {
        let pdu = event(&old, &version, ts, "hello");
        assert_eq!(verify(&bench, &pdu, &version).await.is_ok(), accepted, "{version} at {ts}");
    }
    let mut signed = object(json!({}));
    old.sign_json(&mut signed).unwrap();
    assert!(bench.federation.key_ring().verify_json(there(), &signed).await.is_err(), "not for requests, ever");
}

#[tokio::test]
async fn s_010_keys_that_everybody_has_prove_nothing() {
    // The key of the specification's test vectors.
    let seed = [
        0x60, 0x90, 0xc1, 0x03, 0xd5, 0xe7, 0xaf, 0x6b, 0x15, 0xa9, 0x70, 0xfd, 0x56, 0x3e, 0xd7, 0x55, 0x49, 0xe6,
        0x15, 0x97, 0x19, 0xae, 0x5c, 0x3c, 0x31, 0xde, 0xe4, 0x31, 0x6f, 0xb7, 0x5c, 0x0d,
    ];
    let theirs = rules::event::ServerKey::from_seed(there().to_owned(), "1", &seed).unwrap();
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let pdu = event(&theirs, &V11, START_MS, "hello");
    assert!(matches!(verify(&bench, &pdu, &V11).await, Err(VerifyError::NoKey(_))));
}

#[tokio::test]
async fn s_010_the_operator_can_refuse_a_stolen_key() {
    let theirs = key(there(), "1", 10);
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &[]))).await;
    let pdu = event(&theirs, &V11, START_MS, "hello");
    verify(&bench, &pdu, &V11).await.unwrap();
    bench.federation.key_ring().refuse([theirs.public_key()]);
    assert!(matches!(verify(&bench, &pdu, &V11).await, Err(VerifyError::NoKey(_))));
}

#[tokio::test]
async fn s_011_statements_that_prove_nothing_are_ignored() {
    let theirs = key(there(), "1", 10);
    let pdu = event(&theirs, &V11, START_MS, "hello");
    let good = statement(&theirs, START_MS + DAY_MS, &[]);
    let mut unsigned = good.clone();
    unsigned.remove("signatures");
    let mut changed = good.clone();
    changed.insert("valid_until_ts".to_owned(), ruma::Int::new_saturating(START_MS as i64 + 1).into());
    let mut of_others = unsigned.clone();
    key(server_name!("else.test"), "1", 30).sign_json(&mut of_others).unwrap();
    let mut wrong_key = unsigned.clone();
    key(there(), "1", 31).sign_json(&mut wrong_key).unwrap();
    let mut unknown_key = unsigned.clone();
    key(there(), "2", 32).sign_json(&mut unknown_key).unwrap();
    let about_others = statement(&key(server_name!("else.test"), "1", 10), START_MS + DAY_MS, &[]);
    for (name, statement) in [
        ("unsigned", unsigned),
        ("changed", changed),
        ("signed by others", of_others),
        ("signed with another key", wrong_key),
        ("signed with a key not in it", unknown_key),
        ("about another server", about_others),
        ("empty", object(json!({}))),
    ] {
        let bench = Bench::new(stating(there(), statement)).await;
        assert!(matches!(verify(&bench, &pdu, &V11).await, Err(VerifyError::NoKey(_))), "{name}");
        assert_eq!(bench.storage.server_keys(there()).await.unwrap(), [], "{name}");
    }
    let bench = Bench::new(stating(there(), good)).await;
    verify(&bench, &pdu, &V11).await.unwrap();
}

#[tokio::test]
async fn s_011_a_key_id_never_stands_for_other_bytes() {
    let (first, second) = (key(there(), "1", 10), key(there(), "1", 20));
    let bench = Bench::new(stating(there(), statement(&first, START_MS + 20_000, &[]))).await;
    verify(&bench, &event(&first, &V11, START_MS, "hello"), &V11).await.unwrap();
    let restated = statement(&second, START_MS + DAY_MS, &[]);
    bench.wire.set(move |destination, request| states(destination, request, there(), &restated));
    bench.clock.advance(DAY_MS / 2);
    let pdu = event(&second, &V11, START_MS + DAY_MS / 2, "hello");
    verify(&bench, &pdu, &V11).await.unwrap_err();
    assert_eq!(bench.wire.count(), 2, "it was asked again");
    verify(&bench, &event(&first, &V11, START_MS, "again"), &V11).await.unwrap();
    let stored = bench.storage.server_keys(there()).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].public_key, first.public_key());
    assert_eq!(stored[0].valid_until_ts, START_MS + 20_000, "nor does it make the old ones valid for longer");
}

#[tokio::test]
async fn a_statement_with_too_many_keys_is_ignored() {
    let theirs = key(there(), "1", 10);
    let old: Vec<_> = (0..150).map(|index| key(there(), &format!("old{index}"), index)).collect();
    let old: Vec<_> = old.iter().map(|key| (key, START_MS)).collect();
    let bench = Bench::new(stating(there(), statement(&theirs, START_MS + DAY_MS, &old))).await;
    verify(&bench, &event(&theirs, &V11, START_MS, "hello"), &V11).await.unwrap_err();
}
