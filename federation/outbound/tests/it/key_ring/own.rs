//! Our own keys.

use super::*;
use crate::support::{base64, here, value};

#[tokio::test]
async fn our_statement_is_what_others_accept() {
    let bench = Bench::new(Wire::dead()).await;
    let response = bench.federation.key_ring().server_keys_response().await.unwrap();
    bench.federation.key_ring().verify_json(here(), &response).await.unwrap();
    let response = value(&response);
    assert_eq!(response["server_name"], "here.test");
    assert_eq!(response["valid_until_ts"], START_MS + DAY_MS);
    assert_eq!(response["old_verify_keys"], json!({}));
    let verify_keys = json!({ "ed25519:own": { "key": base64(&bench.key.public_key()) } });
    assert_eq!(response["verify_keys"], verify_keys);
    assert_eq!(bench.wire.count(), 0);
}

#[tokio::test]
async fn our_own_events_need_no_fetch() {
    let bench = Bench::new(Wire::dead()).await;
    let pdu = event(&bench.key, &V11, START_MS + 30 * DAY_MS, "hello");
    verify(&bench, &pdu, &V11).await.unwrap();
    let forged = event(&key(here(), "own", 77), &V11, START_MS, "hello");
    assert!(matches!(verify(&bench, &forged, &V11).await, Err(VerifyError::Signature(_))));
    let unknown = event(&key(here(), "other", 77), &V11, START_MS, "hello");
    assert!(matches!(verify(&bench, &unknown, &V11).await, Err(VerifyError::NoKey(_))));
    assert_eq!(bench.wire.count(), 0);
}

#[tokio::test]
async fn s_017_a_replaced_key_is_listed_as_old() {
    let bench = Bench::new(Wire::dead()).await;
    bench.federation.key_ring().server_keys_response().await.unwrap();
    let before = event(&bench.key, &V11, START_MS, "before");
    bench.clock.advance(DAY_MS);
    let federation = bench.restarted_with(key(here(), "new", 50));
    let response = federation.key_ring().server_keys_response().await.unwrap();
    let old = json!({ "ed25519:own": { "key": base64(&bench.key.public_key()), "expired_ts": START_MS + DAY_MS } });
    assert_eq!(value(&response)["old_verify_keys"], old);
    federation.key_ring().verify_event(&event_object(&before), &rules(&V11)).await.unwrap();
    let after = event(&bench.key, &V11, START_MS + DAY_MS + 1, "after");
    let refused = federation.key_ring().verify_event(&event_object(&after), &rules(&V11)).await;
    assert!(matches!(refused, Err(VerifyError::NoKey(_))), "{refused:?}");

    // The time does not move with each restart.
    bench.clock.advance(DAY_MS);
    let federation = bench.restarted_with(key(here(), "new", 50));
    let response = federation.key_ring().server_keys_response().await.unwrap();
    assert_eq!(value(&response)["old_verify_keys"], old);
}

#[tokio::test]
async fn s_017_a_key_that_nobody_asked_for_is_listed_as_old_too() {
    let bench = Bench::new(Wire::dead()).await;
    bench.federation.key_ring().note_own_key().await.unwrap();
    bench.clock.advance(DAY_MS);
    let federation = bench.restarted_with(key(here(), "new", 50));
    federation.key_ring().note_own_key().await.unwrap();
    bench.clock.advance(DAY_MS);
    // It ended with the start of the one after it, not when somebody asked.
    let old = json!({ "ed25519:own": { "key": base64(&bench.key.public_key()), "expired_ts": START_MS + DAY_MS } });
    let response = federation.key_ring().server_keys_response().await.unwrap();
    assert_eq!(value(&response)["old_verify_keys"], old);
}
