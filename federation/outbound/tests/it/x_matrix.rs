//! Who made a request.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
use outbound::{AuthenticateError, CallError, VerifyError, x_matrix::sign_request};
use rules::event::ServerKey;
use ruma::{
    OwnedServerName, ServerName,
    api::federation::authentication::XMatrix,
    serde::Base64,
    server_name,
    signatures::{KeyPair, PublicKeyMap, PublicKeySet},
};
use serde_json::json;

use crate::support::{Bench, DAY_MS, START_MS, Wire, here, key, ok, statement, unreachable};

const TARGET: &str = "/_matrix/federation/v1/send/1?a=%2Fb&c=d";

fn there() -> &'static ServerName {
    server_name!("there.test")
}

fn their_key() -> ServerKey {
    key(there(), "1", 10)
}

async fn bench() -> Bench {
    let statement = statement(&their_key(), START_MS + DAY_MS, &[]);
    Bench::new(Wire::new(
        move |destination, _| if destination == there() { ok(&statement) } else { Err(unreachable()) },
    ))
    .await
}

fn headers(value: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

/// A request of the other server to us, as that server signs it.
fn signed(method: &Method, target: &str, content: Option<&str>) -> HeaderMap {
    headers(sign_request(&their_key(), here(), method, target, content))
}

async fn check(
    bench: &Bench,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: &str,
) -> Result<OwnedServerName, AuthenticateError> {
    bench.federation.authenticate(method, target, headers, &Bytes::copy_from_slice(body.as_bytes())).await
}

#[tokio::test]
async fn a_signed_request_is_from_who_signed_it() {
    let bench = bench().await;
    let put = Method::PUT;
    let with_body = signed(&put, TARGET, Some(r#"{"a":1,"b":"x"}"#));
    for body in [r#"{"a":1,"b":"x"}"#, "{ \"b\" : \"\\u0078\",\n \"a\": 1 }"] {
        assert_eq!(check(&bench, &put, TARGET, &with_body, body).await.unwrap(), there());
    }
    let without_body = signed(&Method::GET, TARGET, None);
    assert_eq!(check(&bench, &Method::GET, TARGET, &without_body, "").await.unwrap(), there());
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn r_35_a_large_body_is_checked_beside_what_else_is_done() {
    let bench = bench().await;
    let put = Method::PUT;
    for (bytes, is_checked_beside) in [(1_000, false), (1_000_000, true)] {
        let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        let headers = signed(&put, TARGET, Some(&body));
        // The key is known after the first time, so that nothing else has to be waited for.
        assert_eq!(check(&bench, &put, TARGET, &headers, &body).await.unwrap(), there());
        let is_left_for_others = tokio::select! {
            biased;
            _ = check(&bench, &put, TARGET, &headers, &body) => false,
            () = std::future::ready(()) => true,
        };
        assert_eq!(is_left_for_others, is_checked_beside, "{bytes} bytes");
    }
    let body = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000));
    let headers = signed(&put, TARGET, Some("{}"));
    let refused = check(&bench, &put, TARGET, &headers, &body).await;
    assert!(matches!(refused, Err(AuthenticateError::Signature(_))), "{refused:?}");
}

#[tokio::test]
async fn s_098_every_part_of_a_request_is_covered() {
    let bench = bench().await;
    let put = Method::PUT;
    let headers = signed(&put, TARGET, Some(r#"{"a":1}"#));
    for (name, method, target, body) in [
        ("method", Method::POST, TARGET, r#"{"a":1}"#),
        ("path", put.clone(), "/_matrix/federation/v1/send/2?a=%2Fb&c=d", r#"{"a":1}"#),
        ("query order", put.clone(), "/_matrix/federation/v1/send/1?c=d&a=%2Fb", r#"{"a":1}"#),
        ("encoding", put.clone(), "/_matrix/federation/v1/send/1?a=/b&c=d", r#"{"a":1}"#),
        ("case of encoding", put.clone(), "/_matrix/federation/v1/send/1?a=%2fb&c=d", r#"{"a":1}"#),
        ("no query", put.clone(), "/_matrix/federation/v1/send/1", r#"{"a":1}"#),
        ("prefix", put.clone(), "/v1/send/1?a=%2Fb&c=d", r#"{"a":1}"#),
        ("body", put.clone(), TARGET, r#"{"a":2}"#),
        ("empty body", put.clone(), TARGET, "{}"),
        ("no body", put.clone(), TARGET, ""),
    ] {
        let refused = check(&bench, &method, target, &headers, body).await;
        assert!(matches!(refused, Err(AuthenticateError::Signature(_))), "{name}: {refused:?}");
    }
    for target in ["/_matrix/federation/v1/version?", "/_matrix/federation/v1/version"] {
        for (signed_body, sent_body, accepted) in
            [(None, "", true), (Some("{}"), "{}", true), (None, "{}", false), (Some("{}"), "", false)]
        {
            let headers = signed(&put, target, signed_body);
            let checked = check(&bench, &put, target, &headers, sent_body).await;
            assert_eq!(checked.is_ok(), accepted, "{target} {signed_body:?} {sent_body:?}");
        }
    }
    let without = signed(&put, "/_matrix/federation/v1/version", None);
    check(&bench, &put, "/_matrix/federation/v1/version?", &without, "").await.unwrap_err();
}

#[tokio::test]
async fn s_097_headers_that_are_refused_at_once() {
    let bench = bench().await;
    let value = sign_request(&their_key(), here(), &Method::GET, TARGET, None);
    let text = value.to_str().unwrap().to_owned();
    let mut two = headers(value.clone());
    two.append(AUTHORIZATION, value);
    let from_here = sign_request(&bench.key, here(), &Method::GET, TARGET, None);
    let for_others = sign_request(&their_key(), server_name!("else.test"), &Method::GET, TARGET, None);
    let one = |text: &str| headers(HeaderValue::from_str(text).unwrap());
    let table = [
        (HeaderMap::new(), "the request is not signed"),
        (two, "the request has several Authorization headers"),
        (headers(from_here), "the request claims to be from this server"),
        (headers(for_others), "the request is meant for \"else.test\""),
        (one("Bearer abc"), "the Authorization header is not understood: not the scheme X-Matrix"),
        (one(&format!("{text},origin=a.test")), "the Authorization header is not understood: origin stands twice"),
        (one(&format!("{text},x=\"{}\"", "y".repeat(65_536))), "the Authorization header is not understood: too long"),
    ];
    for (headers, reason) in table {
        let refused = bench.federation.claim(&headers).unwrap_err();
        assert_eq!(refused.to_string(), reason);
    }
    assert_eq!(bench.wire.count(), 0, "S-099: nothing is fetched for them");
}

#[tokio::test]
async fn s_097_odd_but_honest_headers_are_accepted() {
    let bench = bench().await;
    let value = sign_request(&their_key(), here(), &Method::GET, TARGET, None);
    let text = value.to_str().unwrap().to_owned();
    let without_destination = text.replace(r#"destination="here.test","#, "");
    assert_ne!(without_destination, text);
    for text in [
        text.replace('"', ""),
        text.replace("X-Matrix", "x-matrix"),
        text.replace("origin", "Origin").replace(',', " , "),
        format!("{text},new=\"1\",new=2"),
        without_destination,
    ] {
        let headers = headers(HeaderValue::from_str(&text).unwrap());
        assert_eq!(check(&bench, &Method::GET, TARGET, &headers, "").await.unwrap(), there(), "{text}");
    }
}

#[tokio::test]
async fn a_fraction_in_one_edu_does_not_fail_a_transaction() {
    let bench = bench().await;
    let put = Method::PUT;
    let canonical = r#"{"edus":[{"content":{"x":1.5,"y":[true,null]}}],"origin":"there.test"}"#;
    let sent = r#"{ "origin": "there.test", "edus": [ { "content": { "y": [true, null], "x": 1.50 } } ] }"#;
    let headers = signed(&put, TARGET, Some(canonical));
    assert_eq!(check(&bench, &put, TARGET, &headers, sent).await.unwrap(), there());
    let other = sent.replace("1.50", "1.51");
    check(&bench, &put, TARGET, &headers, &other).await.unwrap_err();
    let broken = check(&bench, &put, TARGET, &headers, "{").await;
    assert!(matches!(broken, Err(AuthenticateError::NotJson)), "{broken:?}");
}

#[tokio::test]
async fn s_099_a_flood_in_invented_names_is_cheap() {
    let bench = Bench::new(Wire::dead()).await;
    let server = server_name!("invented.test");
    let value = sign_request(&key(server, "1", 5), here(), &Method::GET, TARGET, None);
    for _ in 0..100 {
        let refused = check(&bench, &Method::GET, TARGET, &headers(value.clone()), "").await;
        assert!(matches!(refused, Err(AuthenticateError::Key(VerifyError::NoKey(_)))), "{refused:?}");
    }
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn a_signature_with_a_wrong_key_or_length_is_refused() {
    let bench = bench().await;
    let forged = sign_request(&key(there(), "1", 66), here(), &Method::GET, TARGET, None);
    let refused = check(&bench, &Method::GET, TARGET, &headers(forged), "").await;
    assert!(matches!(refused, Err(AuthenticateError::Signature(_))), "{refused:?}");
    for signature in ["", "AAAA", &"A".repeat(86), &"A".repeat(84), &"A".repeat(88)] {
        let text = format!("X-Matrix origin=there.test,destination=here.test,key=ed25519:1,sig=\"{signature}\"");
        let headers = headers(HeaderValue::from_str(&text).unwrap());
        check(&bench, &Method::GET, TARGET, &headers, "").await.unwrap_err();
    }
    let unknown = sign_request(&key(there(), "2", 10), here(), &Method::GET, TARGET, None);
    let refused = check(&bench, &Method::GET, TARGET, &headers(unknown), "").await;
    assert!(matches!(refused, Err(AuthenticateError::Key(_))), "{refused:?}");
}

/// What we sign is what others, here the library, accept.
#[tokio::test]
async fn our_requests_verify_elsewhere() {
    let bench = Bench::new(Wire::new(|_, _| ok(&json!({ "room_id": "!a:there.test", "servers": [] })))).await;
    let alias = "#caf\u{e9}?&:there.test".try_into().unwrap();
    bench.federation.query_directory(there(), alias).await.unwrap();
    let none = bench.federation.missing_events(there(), ruma::room_id!("!a:b"), &[], &[], 5, 0).await.unwrap();
    assert!(none.is_empty(), "an answer without events has none");
    let keys = PublicKeySet::from([("ed25519:own".to_owned(), Base64::new(bench.key.public_key().to_vec()))]);
    let keys = PublicKeyMap::from([(here().to_string(), keys)]);
    for sent in bench.wire.sent() {
        let x_matrix = XMatrix::extract_from_http_headers(&sent.headers).unwrap();
        let request = http::Request::builder().method(sent.method).uri(sent.target).body(sent.body).unwrap();
        x_matrix.verify_http_request(&request, there(), &keys).unwrap();
    }
    assert_eq!(bench.wire.count(), 2);
}

/// The text that is signed, in the form that the specification gives.
#[test]
fn what_is_signed() {
    let value = sign_request(&their_key(), here(), &Method::PUT, "/target?q=\"", Some(r#"{"a":1}"#));
    let text =
        r#"{"content":{"a":1},"destination":"here.test","method":"PUT","origin":"there.test","uri":"/target?q=\""}"#;
    let signature = their_key().sign(text.as_bytes()).base64();
    let header = format!(r#"X-Matrix origin="there.test",destination="here.test",key="ed25519:1",sig="{signature}""#);
    assert_eq!(value.to_str().unwrap(), header);
    assert!(value.is_sensitive());
}

#[tokio::test]
async fn we_do_not_call_ourselves() {
    let bench = bench().await;
    let refused = bench.federation.event(here(), ruma::event_id!("$e")).await;
    assert!(matches!(refused, Err(CallError::Denied(_))), "{refused:?}");
    assert_eq!(bench.wire.count(), 0);
}
