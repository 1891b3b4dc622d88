//! Keys with which everybody can sign, and signatures that some servers accept and others do not.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use outbound::AuthenticateError;
use rules::event::ServerKey;
use ruma::{
    CanonicalJsonObject, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::verify_canonical_json_bytes,
};

use super::*;
use crate::support::base64;

const TARGET: &str = "/_matrix/federation/v1/version";

/// A signature on `{"mxid":"@a:there.test"}` by the key of [`theirs`], made as nobody makes one: with 0 as the number
/// that is to be secret, so that its first half is the neutral point.
const WITH_NEUTRAL_POINT: &str =
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACEZBQzfT2GWPm9k3JM8uJqvxGWhi3aCpMbCgDvQNW3AA";

/// The order of the group, lowest byte first: added to the second half of a signature, it changes its bytes only.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn theirs() -> ServerKey {
    key(there(), "1", 10)
}

fn neutral_point() -> [u8; 32] {
    std::array::from_fn(|index| u8::from(index == 0))
}

/// By the key that is the neutral point: on whatever there is.
fn on_everything() -> Vec<u8> {
    [neutral_point(), [0; 32]].concat()
}

fn text(signature: &[u8]) -> String {
    Base64::<Standard, _>::new(signature).encode()
}

fn with_signature(signature: &str) -> CanonicalJsonObject {
    object(json!({ "mxid": "@a:there.test", "signatures": { "there.test": { "ed25519:1": signature } } }))
}

/// What is signed is accepted by a check that is not strict.
fn is_laxly_valid(public_key: &[u8; 32], signature: &[u8], text: &str) -> bool {
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, public_key, signature, text.as_bytes()).is_ok()
}

#[tokio::test]
async fn s_013_a_key_with_which_everybody_can_sign_is_none() {
    assert!(is_laxly_valid(&neutral_point(), &on_everything(), "anything"), "the danger is real");
    let key = json!({ "key": base64(&neutral_point()) });
    let statement = |with_good_key: bool| {
        let mut statement = json!({
            "server_name": there(), "valid_until_ts": START_MS + DAY_MS, "verify_keys": { "ed25519:weak": key.clone() },
            "old_verify_keys": { "ed25519:old": { "key": base64(&neutral_point()), "expired_ts": START_MS } },
            "signatures": { "there.test": { "ed25519:weak": text(&on_everything()) } },
        });
        if with_good_key {
            statement["verify_keys"]["ed25519:1"] = json!({ "key": base64(&theirs().public_key()) });
            statement.as_object_mut().unwrap().remove("signatures");
        }
        let mut statement = object(statement);
        if with_good_key {
            theirs().sign_json(&mut statement).unwrap();
        }
        statement
    };
    for with_good_key in [false, true] {
        let bench = Bench::new(stating(there(), statement(with_good_key))).await;
        for key_id in ["ed25519:weak", "ed25519:old"] {
            let mut forged = event_object(&event(&theirs(), &V11, START_MS, "hello"));
            let signatures = json!({ "there.test": { key_id: text(&on_everything()) } });
            forged.insert("signatures".to_owned(), object(signatures).into());
            bench.federation.key_ring().verify_event(&forged, &rules(&V11)).await.unwrap_err();
            let header = format!(r#"X-Matrix origin="there.test",key="{key_id}",sig="{}""#, text(&on_everything()));
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&header).unwrap())]);
            bench.federation.authenticate(&Method::GET, TARGET, &headers, &Bytes::new()).await.unwrap_err();
        }
        let by_good_key = verify(&bench, &event(&theirs(), &V11, START_MS, "hello"), &V11).await;
        assert_eq!(by_good_key.is_ok(), with_good_key, "{by_good_key:?}");
    }
}

#[tokio::test]
async fn s_013_signatures_that_not_everybody_accepts_are_none() {
    let bench = Bench::new(stating(there(), statement(&theirs(), START_MS + DAY_MS, &[]))).await;
    let mut good = object(json!({ "mxid": "@a:there.test" }));
    theirs().sign_json(&mut good).unwrap();
    let good =
        good["signatures"].as_object().unwrap()["there.test"].as_object().unwrap()["ed25519:1"].as_str().unwrap();
    let bytes = Base64::<Standard>::parse(good).unwrap().into_inner();
    let neutral = Base64::<Standard>::parse(WITH_NEUTRAL_POINT).unwrap().into_inner();
    assert!(is_laxly_valid(&theirs().public_key(), &neutral, r#"{"mxid":"@a:there.test"}"#), "the danger is real");
    bench.federation.key_ring().verify_json(there(), &with_signature(good)).await.unwrap();
    for (name, signature) in [
        ("first half without meaning", neutral),
        ("second half beyond the order", beyond_the_order(&bytes)),
        ("zero", vec![0; 64]),
        ("short", bytes[..63].to_vec()),
        ("long", [&bytes[..], &[0]].concat()),
        ("empty", Vec::new()),
    ] {
        let refused = bench.federation.key_ring().verify_json(there(), &with_signature(&text(&signature))).await;
        assert!(matches!(refused, Err(VerifyError::Signature(_))), "{name}: {refused:?}");
        let mut forged = event_object(&event(&theirs(), &V11, START_MS, "hello"));
        forged.insert("signatures".to_owned(), with_signature(&text(&signature))["signatures"].clone());
        let refused = bench.federation.key_ring().verify_event(&forged, &rules(&V11)).await;
        assert!(matches!(refused, Err(VerifyError::Signature(_))), "{name}: {refused:?}");
        let header = format!(r#"X-Matrix origin="there.test",key="ed25519:1",sig="{}""#, text(&signature));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&header).unwrap())]);
        let refused = bench.federation.authenticate(&Method::GET, TARGET, &headers, &Bytes::new()).await;
        assert!(matches!(refused, Err(AuthenticateError::Signature(_))), "{name}: {refused:?}");
    }
}

/// The same signature to who does not look whether its second half has its one form.
fn beyond_the_order(signature: &[u8]) -> Vec<u8> {
    let mut carry = 0_u16;
    let second = signature[32..].iter().zip(ORDER).map(|(byte, of_order)| {
        let sum = u16::from(*byte) + u16::from(of_order) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    });
    let second: Vec<u8> = second.collect();
    [&signature[..32], &second].concat()
}
