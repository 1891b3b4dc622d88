//! What we ask other servers for, and what we make of their answers.

use http::Method;
use outbound::{CallError, ProfileAnswer, TransportError};
use ruma::{RoomVersionId, ServerName, event_id, room_id, server_name, user_id};
use serde_json::{Value, json};

use crate::support::{Bench, START_MS, Wire, error, event, ok, status, value};

const V11: RoomVersionId = RoomVersionId::V11;

fn there() -> &'static ServerName {
    server_name!("there.test")
}

fn raw(text: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(text.to_owned()).unwrap()
}

async fn answering(code: u16, body: Value) -> Bench {
    Bench::new(Wire::new(move |_, _| status(code, &body))).await
}

#[tokio::test]
async fn make_join_names_our_versions() {
    let bench = answering(200, json!({ "room_version": "11", "event": { "depth": 3 } })).await;
    let template = bench
        .federation
        .make_join(there(), room_id!("!a/b:there.test"), user_id!("@u:here.test"), &[RoomVersionId::V10, V11])
        .await
        .unwrap();
    assert_eq!(template.room_version, V11);
    assert_eq!(value(&template.event), json!({ "depth": 3 }));
    let sent = &bench.wire.sent()[0];
    assert_eq!(sent.method, Method::GET);
    assert_eq!(sent.target, "/_matrix/federation/v1/make_join/%21a%2Fb%3Athere.test/%40u%3Ahere.test?ver=10&ver=11");
    assert!(sent.body.is_empty());
}

#[tokio::test]
async fn a_template_is_read_strictly() {
    for body in [
        json!({ "room_version": "11", "event": { "depth": 1.5 } }),
        json!({ "room_version": "11", "event": [] }),
        json!({ "room_version": 11, "event": {} }),
        json!({}),
        json!([]),
    ] {
        let bench = answering(200, body.clone()).await;
        let answer = bench.federation.make_leave(there(), room_id!("!a:there.test"), user_id!("@u:here.test")).await;
        assert!(matches!(answer, Err(CallError::Malformed(_))), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn send_join_falls_back_to_version_1() {
    let bench = Bench::new(Wire::new(|_, request| {
        let room = json!({ "state": [{ "a": 1.5 }], "auth_chain": [], "servers_in_room": ["there.test"] });
        if request.uri().path().contains("/v2/") { error(404, "M_UNRECOGNIZED") } else { ok(&json!([200, room])) }
    }))
    .await;
    let join = event(&bench.key, &V11, START_MS, "join");
    let answer = bench.federation.send_join(there(), &join, false).await.unwrap();
    assert_eq!(answer.state[0].get(), r#"{"a":1.5}"#);
    assert_eq!(answer.servers_in_room.unwrap(), [there()]);
    assert!(!answer.members_omitted && answer.event.is_none() && answer.auth_chain.is_empty());
    let sent = bench.wire.sent();
    let path = format!("send_join/%21room%3Ahere.test/{}", join.event_id.as_str().replace('$', "%24"));
    assert_eq!(sent[0].target, format!("/_matrix/federation/v2/{path}"));
    assert_eq!(sent[1].target, format!("/_matrix/federation/v1/{path}"));
    assert_eq!(sent[1].body, join.json.as_bytes());
}

#[tokio::test]
async fn send_join_asks_for_a_state_without_members() {
    let bench = Bench::new(Wire::new(|_, _| {
        ok(&json!({ "state": [], "auth_chain": [], "servers_in_room": ["there.test"], "members_omitted": true }))
    }))
    .await;
    let join = event(&bench.key, &V11, START_MS, "join");
    let answer = bench.federation.send_join(there(), &join, true).await.unwrap();
    assert!(answer.members_omitted);
    assert!(bench.wire.sent()[0].target.ends_with("?omit_members=true"));
}

#[tokio::test]
async fn a_room_that_is_not_there_is_no_reason_to_fall_back() {
    let bench = Bench::new(Wire::new(|_, _| error(404, "M_NOT_FOUND"))).await;
    let join = event(&bench.key, &V11, START_MS, "join");
    let answer = bench.federation.send_join(there(), &join, false).await;
    assert!(matches!(answer, Err(CallError::Refused { status: 404, .. })), "{answer:?}");
    assert_eq!(bench.wire.count(), 1);
}

#[tokio::test]
async fn send_leave_in_both_versions() {
    let bench = Bench::new(Wire::new(|_, request| {
        if request.uri().path().contains("/v2/") { status(404, &"not JSON of Matrix") } else { ok(&json!([200, {}])) }
    }))
    .await;
    let leave = event(&bench.key, &V11, START_MS, "leave");
    bench.federation.send_leave(there(), &leave).await.unwrap();
    assert_eq!(bench.wire.count(), 2);
}

#[tokio::test]
async fn invites_in_both_versions() {
    let bench = Bench::new(Wire::new(|_, request| {
        if request.uri().path().contains("/v2/") {
            error(404, "M_UNRECOGNIZED")
        } else {
            ok(&json!([200, { "event": { "signed": true } }]))
        }
    }))
    .await;
    let invite = event(&bench.key, &V11, START_MS, "invite");
    let state = [raw(r#"{"type":"m.room.name"}"#)];
    let answer = bench.federation.invite(there(), &invite, &RoomVersionId::V2, &state).await.unwrap();
    assert_eq!(answer.get(), r#"{"signed":true}"#);
    let sent = bench.wire.sent();
    let (v2, v1) = (sent[0].json(), sent[1].json());
    assert_eq!(v2["room_version"], "2");
    assert_eq!(v2["event"]["type"], "m.room.message");
    assert_eq!(v2["invite_room_state"], json!([{ "type": "m.room.name" }]));
    assert_eq!(v1["type"], "m.room.message");
    assert_eq!(v1["unsigned"]["invite_room_state"], json!([{ "type": "m.room.name" }]));

    let refused = bench.federation.invite(there(), &invite, &V11, &state).await;
    assert!(matches!(refused, Err(CallError::Refused { status: 404, .. })), "only versions 1 and 2 have a version 1");
    assert_eq!(bench.wire.count(), 3);
}

#[tokio::test]
async fn events_and_state() {
    let room = room_id!("!r:there.test");
    let bench = answering(
        200,
        json!({
            "pdus": [{ "a": 1 }], "events": [{ "b": 2 }], "auth_chain": [{ "c": 3 }],
            "pdu_ids": ["$p"], "auth_chain_ids": ["$q"],
        }),
    )
    .await;
    let federation = &bench.federation;
    let ids = [event_id!("$x").to_owned(), event_id!("$y").to_owned()];
    assert_eq!(federation.backfill(there(), room, &ids, 20).await.unwrap()[0].get(), r#"{"a":1}"#);
    assert_eq!(federation.missing_events(there(), room, &ids[..1], &ids[1..], 7, 3).await.unwrap().len(), 1);
    assert_eq!(federation.event(there(), event_id!("$e/f")).await.unwrap().get(), r#"{"a":1}"#);
    assert_eq!(federation.state_ids(there(), room, &ids[0]).await.unwrap().pdu_ids, [event_id!("$p")]);
    assert_eq!(federation.state(there(), room, &ids[0]).await.unwrap().auth_chain.len(), 1);
    assert_eq!(federation.event_auth(there(), room, &ids[0]).await.unwrap().len(), 1);
    let sent = bench.wire.sent();
    let targets: Vec<_> = sent.iter().map(|sent| sent.target.trim_start_matches("/_matrix/federation/v1/")).collect();
    assert_eq!(
        targets,
        [
            "backfill/%21r%3Athere.test?v=%24x&v=%24y&limit=20",
            "get_missing_events/%21r%3Athere.test",
            "event/%24e%2Ff",
            "state_ids/%21r%3Athere.test?event_id=%24x",
            "state/%21r%3Athere.test?event_id=%24x",
            "event_auth/%21r%3Athere.test/%24x",
        ]
    );
    assert_eq!(
        sent[1].json(),
        json!({ "earliest_events": ["$x"], "latest_events": ["$y"], "limit": 7, "min_depth": 3 })
    );
}

#[tokio::test]
async fn one_event_is_one_event() {
    for pdus in [json!([]), json!([{}, {}])] {
        let bench = answering(200, json!({ "pdus": pdus })).await;
        let answer = bench.federation.event(there(), event_id!("$e")).await;
        assert!(matches!(answer, Err(CallError::Malformed(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn profiles_lose_what_is_not_text() {
    for (body, display_name, avatar_url, other) in [
        (
            json!({ "displayname": "A", "avatar_url": "mxc://a/b", "x": [1] }),
            Some("A"),
            Some("mxc://a/b"),
            Some(json!([1])),
        ),
        (json!({ "displayname": null, "avatar_url": 5 }), None, None, None),
        (json!({}), None, None, None),
    ] {
        let bench = answering(200, body).await;
        let profile = bench.federation.query_profile(there(), user_id!("@u:there.test")).await.unwrap();
        let expected = ProfileAnswer {
            fields: other.map(|value| ("x".to_owned(), value)).into_iter().collect(),
            display_name: display_name.map(ToOwned::to_owned),
            avatar_url: avatar_url.map(ToOwned::to_owned),
        };
        assert_eq!(profile, expected);
    }
}

#[tokio::test]
async fn s_064_refusals_are_told_apart() {
    for (code, body, errcode) in [
        (401, json!({ "errcode": "M_UNKNOWN_TOKEN", "soft_logout": true }), Some("M_UNKNOWN_TOKEN")),
        (429, json!({ "errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 5 }), Some("M_LIMIT_EXCEEDED")),
        (302, json!("elsewhere"), None),
        (500, json!({ "errcode": 5 }), None),
    ] {
        let bench = answering(code, body).await;
        let refused = bench.federation.event(there(), event_id!("$e")).await.unwrap_err();
        let CallError::Refused { status, errcode: got, .. } = refused else { panic!("{refused:?}") };
        assert_eq!((status, got.as_deref()), (code, errcode));
    }
    let long = answering(403, json!({ "errcode": "M_FORBIDDEN", "error": "x".repeat(10_000) })).await;
    let refused = long.federation.event(there(), event_id!("$e")).await.unwrap_err();
    assert!(refused.to_string().len() < 400, "a log line has an end");
}

#[tokio::test]
async fn failures_of_the_wire_are_told_apart() {
    let failures = [
        (TransportError::Unreachable("x".into()), CallError::Unreachable("x".into())),
        (TransportError::Denied("x".into()), CallError::Denied("x".into())),
        (TransportError::TooLarge { limit_bytes: 1 }, CallError::TooLarge),
        (TransportError::Deadline(std::time::Duration::from_secs(1)), CallError::Deadline),
    ];
    for (failure, expected) in failures {
        let bench = Bench::new(Wire::new(move |_, _| Err(failure.clone()))).await;
        assert_eq!(bench.federation.event(there(), event_id!("$e")).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_large_answer_is_parsed_as_well() {
    let body = format!(r#"{{"pdus":[],"auth_chain":["{}"]}}"#, "x".repeat(2_000_000));
    let bench = Bench::new(Wire::new(move |_, _| Ok(http::Response::new(body.clone().into())))).await;
    let state = bench.federation.state(there(), room_id!("!r:there.test"), event_id!("$e")).await.unwrap();
    assert_eq!(state.auth_chain[0].get().len(), 2_000_002);
}
