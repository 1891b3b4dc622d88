//! Who asks: signatures on requests.

use fake_homeserver::{Request, Response, SignedRequest, body_of};
use http::{HeaderValue, Method, header};
use serde_json::json;

use crate::stage::{Stage, errcode};

/// An endpoint that answers 200 to whoever is known to ask: a profile that is there.
const TARGET: &str = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Atest";

async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.user("alice").await;
    stage
}

fn prepared(stage: &Stage) -> SignedRequest {
    stage.remote.prepare(&stage.name, Method::GET, TARGET, None)
}

async fn deliver(stage: &Stage, request: Request) -> Response {
    stage.network.deliver(&stage.name, request).await.unwrap()
}

async fn deliver_with(stage: &Stage, authorization: &[&str]) -> Response {
    let mut request = prepared(stage).into_unsigned_request();
    for value in authorization {
        request.headers_mut().append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    deliver(stage, request).await
}

#[tokio::test]
async fn s_097_honest_headers_of_any_style_are_understood() {
    let stage = stage().await;
    let signature = prepared(&stage).signature(&stage.remote.key());
    let headers = [
        format!(r#"X-Matrix origin="remote",destination="test",key="ed25519:fake",sig="{signature}""#),
        format!("X-Matrix origin=remote,destination=test,key=ed25519:fake,sig=\"{signature}\""),
        format!(r#"x-matrix ORIGIN="remote" , Destination="test",	KEY="ed25519:fake",sig="{signature}""#),
        format!(r#"X-Matrix sig="{signature}",key="ed25519:fake",origin="remote",destination="test",more="x""#),
        format!(r#"X-Matrix origin="\r\emote",destination="test",key="ed25519:fake",sig="{signature}""#),
        // How servers asked before version 1.3.
        format!(r#"X-Matrix origin=remote,key="ed25519:fake",sig="{signature}""#),
    ];
    for header in headers {
        let response = deliver_with(&stage, &[&header]).await;
        assert_eq!(response.status(), 200, "{header}");
    }
}

#[tokio::test]
async fn s_097_odd_headers_are_401() {
    let stage = stage().await;
    let good = prepared(&stage).authorization(&stage.remote.key());
    let signature = prepared(&stage).signature(&stage.remote.key());
    let long = format!(r#"X-Matrix origin="remote",x="{}",key="ed25519:fake",sig="{signature}""#, "a".repeat(65_536));
    let cases: Vec<Vec<&str>> =
        vec![vec![], vec![""], vec!["X-Matrix"], vec!["Bearer abc"], vec![&good, &good], vec![&long]];
    for case in cases {
        let response = deliver_with(&stage, &case).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (401, "M_UNAUTHORIZED"), "{case:?}");
    }
    let replaced = [
        (r#"origin="remote""#, r#"origin="remote",origin="remote""#),
        (r#"origin="remote""#, r#"origin="test""#),
        (r#"origin="remote""#, r#"origin="elsewhere""#),
        (r#"origin="remote""#, r#"origin="not a name""#),
        (r#"destination="test""#, r#"destination="other""#),
        (r#"destination="test""#, r#"destination="""#),
        (r#"key="ed25519:fake""#, r#"key="ed25519:other""#),
        (r#"key="ed25519:fake""#, r#"key="rsa:fake""#),
        (r#"key="ed25519:fake""#, r#"key="ed25519""#),
        (signature.as_str(), "AAAA"),
        (signature.as_str(), ""),
        (signature.as_str(), "!!!"),
        ("sig=", "gis="),
    ];
    for (part, other) in replaced {
        let header = good.replace(part, other);
        assert_ne!(header, good);
        let response = deliver_with(&stage, &[&header]).await;
        assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (401, "M_UNAUTHORIZED"), "{header}");
    }
}

#[tokio::test]
async fn s_098_the_target_is_signed_as_it_stands() {
    let stage = stage().await;
    let honest = [
        TARGET.to_owned(),
        format!("{TARGET}&"),
        format!("{TARGET}&field=displayname"),
        "/_matrix/federation/v1/query/profile?field=displayname&user_id=@alice:test".to_owned(),
        "/_matrix/federation/v1/query/profile?user_id=%40alice%3atest".to_owned(),
        "/_matrix/federation/v1/query/%70rofile?user_id=@alice:test".to_owned(),
    ];
    for target in &honest {
        let request = stage.remote.prepare(&stage.name, Method::GET, target, None).into_request(&stage.remote.key());
        let status = deliver(&stage, request).await.status().as_u16();
        // Where an encoded letter is not understood as the letter, the endpoint is another; but the signature is right.
        assert_ne!(status, 401, "{target}");
    }
    for (signed, sent) in honest.iter().zip(honest.iter().skip(1)) {
        let mut request =
            stage.remote.prepare(&stage.name, Method::GET, signed, None).into_request(&stage.remote.key());
        *request.uri_mut() = sent.parse().unwrap();
        let status = deliver(&stage, request).await.status().as_u16();
        assert!([401, 404].contains(&status), "signed {signed}, sent {sent}: {status}");
    }
}

#[tokio::test]
async fn s_098_a_nested_router_does_not_change_the_target() {
    let stage = stage().await;
    let router =
        axum::Router::new().nest("/prefix", inbound::router(stage.engine.clone(), inbound::Options::default()));
    let nested = ruma::owned_server_name!("nested");
    stage.network.add_router(&nested, router);
    let ask = async |signed: &str| {
        let mut request =
            stage.remote.prepare(&stage.name, Method::GET, signed, None).into_request(&stage.remote.key());
        *request.uri_mut() = format!("/prefix{TARGET}").parse().unwrap();
        stage.network.deliver(&nested, request).await.unwrap().status()
    };
    assert_eq!(ask(&format!("/prefix{TARGET}")).await, 200);
    assert_eq!(ask(TARGET).await, 401);
}

#[tokio::test]
async fn s_098_method_and_body_are_signed_too() {
    let stage = stage().await;
    let alice = stage.user("bob").await;
    let room_id = stage.local_room(&alice, |_| {}).await;
    let target = format!("/_matrix/federation/v1/get_missing_events/{room_id}");
    let body = json!({"earliest_events": [], "latest_events": []});
    let honest = stage.remote.prepare(&stage.name, Method::POST, &target, Some(&body));
    let key = stage.remote.key();
    assert_ne!(deliver(&stage, honest.clone().into_request(&key)).await.status(), 401);
    let authorization = HeaderValue::from_str(&honest.authorization(&key)).unwrap();
    for other in ["", "{}", r#"{"earliest_events":[],"latest_events":[],"limit":1}"#] {
        let mut request = honest.clone().into_unsigned_request();
        *request.body_mut() = other.to_owned().into();
        request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        assert_eq!(deliver(&stage, request).await.status(), 401, "{other}");
    }
    // The same JSON in other words has the same signature.
    let mut request = honest.clone().into_unsigned_request();
    *request.body_mut() = r#" { "latest_events" : [ ] , "earliest_events" : [ ] } "#.to_owned().into();
    request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
    assert_ne!(deliver(&stage, request).await.status(), 401);
    let other = SignedRequest { method: Method::PUT, ..honest.clone() };
    let mut request = honest.clone().into_unsigned_request();
    let authorization = HeaderValue::from_str(&other.authorization(&key)).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, authorization);
    assert_eq!(deliver(&stage, request).await.status(), 401);
}

#[tokio::test]
async fn s_098_no_body_and_an_empty_object_differ() {
    let stage = stage().await;
    let key = stage.remote.key();
    let without = prepared(&stage);
    let with = SignedRequest { body: Some("{}".to_owned()), ..without.clone() };
    for (signed, sent, status) in
        [(&without, &without, 200), (&with, &with, 200), (&without, &with, 401), (&with, &without, 401)]
    {
        let mut request = (*sent).clone().into_unsigned_request();
        let authorization = HeaderValue::from_str(&signed.authorization(&key)).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
        assert_eq!(deliver(&stage, request).await.status(), status);
    }
}

#[tokio::test]
async fn a_server_that_asks_is_up_and_gets_what_waits_for_it() {
    use outbound::FlushOutcome;
    let stage = stage().await;
    let alice = stage.user("carol").await;
    let room = stage.joined_room(&alice).await;
    stage.network.cut(stage.remote.name());
    stage.send(&alice, &room.id, "waiting").await;
    let flush = async || stage.engine.sender().flush(stage.remote.name()).await.unwrap();
    assert_eq!(flush().await, FlushOutcome::Failed);
    assert!(matches!(flush().await, FlushOutcome::BackingOff { .. }));
    stage.network.mend(stage.remote.name());
    assert!(matches!(flush().await, FlushOutcome::BackingOff { .. }));
    // What anybody can say proves nothing.
    deliver_with(&stage, &["X-Matrix origin=remote,destination=test,key=\"ed25519:fake\",sig=\"AAAA\""]).await;
    assert!(matches!(flush().await, FlushOutcome::BackingOff { .. }));
    assert_eq!(deliver(&stage, prepared(&stage).into_request(&stage.remote.key())).await.status(), 200);
    assert!(matches!(flush().await, FlushOutcome::Sent { .. }));
    assert!(stage.remote.received_pdus().iter().any(|pdu| pdu["content"]["body"] == "waiting"));
}

#[tokio::test]
async fn s_016_who_asks_is_said_by_the_signature_alone() {
    let stage = stage().await;
    let alice = stage.user("carol").await;
    let room = stage.joined_room(&alice).await;
    let other = stage.network.add_fake("other");
    let rita = stage.remote.user("rita");
    // A server that is not in the room sends an event of its own user there and claims to be one that is.
    let draft =
        room.draft(&other, &other.user("mallory"), "m.room.message", None, json!({"body": "x", "msgtype": "m.text"}));
    let forged = other.build(draft, &room.rules);
    let body = json!({"origin": "remote", "origin_server_ts": 1, "pdus": [forged.to_raw_json()], "edus": [
        {"edu_type": "m.typing", "content": {"room_id": room.id, "user_id": rita, "typing": true}},
    ]});
    let response = other.ask(&stage.name, Method::PUT, "/_matrix/federation/v1/send/1", Some(&body)).await;
    assert_eq!(response.status(), 200);
    assert!(!stage.sees(&alice, &room.id, &forged.event_id).await);
    assert!(!stage.sync(&alice).await.to_string().contains("m.typing"));
    // The other way round: an honest transaction with a wrong, an odd, or no `origin` in its body.
    for (number, origin) in [json!("elsewhere"), json!(7), json!(null)].into_iter().enumerate() {
        let message = room.send_message(&stage.remote, &rita, "honest");
        let mut body = json!({"origin": origin, "origin_server_ts": 1, "pdus": [message.to_raw_json()]});
        if body["origin"].is_null() {
            body.as_object_mut().unwrap().remove("origin");
        }
        let target = format!("/_matrix/federation/v1/send/honest{number}");
        let response = stage.remote.ask(&stage.name, Method::PUT, &target, Some(&body)).await;
        assert_eq!(response.status(), 200, "{:?}", response.body());
        assert_eq!(body_of(&response)["pdus"][message.event_id.as_str()], json!({}));
        assert!(stage.sees(&alice, &room.id, &message.event_id).await);
    }
}

#[tokio::test]
async fn s_016_the_origin_of_a_pdu_counts_for_nothing() {
    let stage = stage().await;
    let alice = stage.user("carol").await;
    let room = stage.joined_room(&alice).await;
    let draft = room.draft(
        &stage.remote,
        &stage.remote.user("rita"),
        "m.room.message",
        None,
        json!({"body": "x", "msgtype": "m.text"}),
    );
    let mut object = fake_homeserver::object_of(&stage.remote.build(draft, &room.rules));
    object.insert("origin".to_owned(), "test".into());
    object.insert("sender".to_owned(), alice.user_id.as_str().into());
    let forged = fake_homeserver::raw(fake_homeserver::text_of(&stage.remote.seal(object, &room.rules)));
    let head = stage.log_head();
    stage.receive_raw(&[forged]).await;
    assert_eq!(stage.log_head(), head);
}
