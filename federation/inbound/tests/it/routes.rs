//! What the door answers to, and what it does not.

use axum::body::Body;
use fake_homeserver::body_of;
use http::Method;
use inbound::{Access, Endpoint, route_table};
use serde_json::json;

use crate::stage::{Stage, errcode};

/// A path with something for each parameter.
fn example(endpoint: &Endpoint) -> String {
    endpoint
        .path
        .replace("{room_id}", "!room:remote")
        .replace("{event_id}", "$event")
        .replace("{user_id}", "@rita:remote")
        .replace("{transaction_id}", "t1")
        .replace("{server_name}", "remote")
        .replace("{media_id}", "nothing")
        .replace("{key_id}", "ed25519:fake")
}

async fn ask_unsigned(stage: &Stage, method: Method, path: &str) -> fake_homeserver::Response {
    let request = stage.remote.prepare(&stage.name, method, path, None).into_unsigned_request();
    stage.network.deliver(&stage.name, request).await.unwrap()
}

#[tokio::test]
async fn s_101_every_route_with_the_wrong_method_is_405() {
    let stage = Stage::new().await;
    for endpoint in route_table() {
        for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            if route_table().iter().any(|other| other.path == endpoint.path && other.method == method) {
                continue;
            }
            let response = ask_unsigned(&stage, method.clone(), &example(&endpoint)).await;
            assert_eq!(response.status(), 405, "{method} {}", endpoint.path);
            assert_eq!(errcode(&response), "M_UNRECOGNIZED", "{method} {}", endpoint.path);
        }
    }
}

#[tokio::test]
async fn s_101_what_is_not_listed_is_404() {
    let stage = Stage::new().await;
    let paths = [
        "/_matrix/federation",
        "/_matrix/federation/",
        "/_matrix/federation/v1",
        "/_matrix/federation/v1/query/unheard_of",
        "/_matrix/federation/v3/send/t1",
        "/_matrix/federation/v1/send",
        "/_matrix/key/v1/server",
        "/_matrix/key/v2",
        "/_matrix/key/v2/server/a/b",
    ];
    for path in paths {
        for method in [Method::GET, Method::PUT, Method::POST] {
            let response = ask_unsigned(&stage, method, path).await;
            assert_eq!((response.status().as_u16(), errcode(&response).as_str()), (404, "M_UNRECOGNIZED"), "{path}");
        }
    }
}

#[tokio::test]
async fn s_102_paths_are_taken_literally() {
    let stage = Stage::new().await;
    let paths = [
        "/_matrix/federation/v1//version",
        "//_matrix/federation/v1/version",
        "/_matrix/federation/v1/./version",
        "/_matrix/federation/v1/version/",
        "/_matrix/federation/v1/version/more",
        "/_matrix/federation/v1/version;x",
        "/_matrix/federation/v1/Version",
        "/_matrix/federation/v1/%2e/version",
        "/_matrix/federation%2Fv1/version",
        "/_matrix/federation/v1/x/version",
    ];
    for path in paths {
        let response = ask_unsigned(&stage, Method::GET, path).await;
        assert_eq!(response.status(), 404, "{path}");
    }
    assert_eq!(ask_unsigned(&stage, Method::GET, "/_matrix/federation/v1/version").await.status(), 200);
}

#[tokio::test]
async fn signed_routes_refuse_what_is_not_signed() {
    let stage = Stage::new().await;
    for endpoint in route_table() {
        let response = ask_unsigned(&stage, endpoint.method.clone(), &example(&endpoint)).await;
        let refused = (response.status().as_u16(), errcode(&response).as_str()) == (401, "M_UNAUTHORIZED");
        assert_eq!(refused, endpoint.access == Access::Signed, "{} {}", endpoint.method, endpoint.path);
    }
}

#[tokio::test]
async fn the_door_can_stand_beside_other_doors() {
    let stage = Stage::new().await;
    let other = axum::Router::new()
        .route("/_matrix/client/versions", axum::routing::get(async || "yes"))
        .fallback(async || http::StatusCode::IM_A_TEAPOT);
    let both = other.merge(inbound::router(stage.engine.clone(), inbound::Options::default()));
    let status = async |path: &str| {
        use tower::ServiceExt as _;
        let request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
        both.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status("/_matrix/client/versions").await, 200);
    assert_eq!(status("/_matrix/federation/v1/version").await, 200);
    assert_eq!(status("/_matrix/federation/v1/nothing").await, 404);
    assert_eq!(status("/elsewhere").await, 418);
}

#[tokio::test]
async fn the_well_known_file_is_served_where_one_is_configured() {
    let stage = Stage::new().await;
    assert_eq!(ask_unsigned(&stage, Method::GET, "/.well-known/matrix/server").await.status(), 404);
    let options = inbound::Options { well_known_server: Some("matrix.test:443".to_owned()) };
    let stage = Stage::with_options(options).await;
    let response = ask_unsigned(&stage, Method::GET, "/.well-known/matrix/server").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(body_of(&response), json!({"m.server": "matrix.test:443"}));
}

#[tokio::test]
async fn the_version_is_open_to_everybody() {
    let stage = Stage::new().await;
    let response = ask_unsigned(&stage, Method::GET, "/_matrix/federation/v1/version").await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(body_of(&response)["server"]["name"], "Nudge");
}

#[tokio::test]
async fn s_125_a_token_that_a_user_has_shown_names_the_user() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let (token, _) = stage.engine.create_open_id_token(&alice.user_id).await.unwrap();
    let ask = async |token: &str| {
        let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
        ask_unsigned(&stage, Method::GET, &path).await
    };
    assert_eq!(body_of(&ask(&token).await), json!({ "sub": alice.user_id }));
    let unknown = ask("ndo_nothing").await;
    assert_eq!((unknown.status().as_u16(), errcode(&unknown).as_str()), (401, "M_UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn other_servers_see_the_whole_profile() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    stage.engine.set_profile_field(&alice, "m.tz", json!("Europe/Berlin")).await.unwrap();
    let target = "/_matrix/federation/v1/query/profile?user_id=@alice:test";
    let profile = body_of(&stage.remote.get(&stage.name, target).await);
    assert_eq!(profile["m.tz"], "Europe/Berlin");
    let field = body_of(&stage.remote.get(&stage.name, &format!("{target}&field=m.tz")).await);
    assert_eq!(field, json!({ "m.tz": "Europe/Berlin" }));
}
