//! Accounts made by scripts that know the operator's secret.

use engine::Registration;
use hmac::{Hmac, KeyInit, Mac};
use homeserver_client_api::AdministrationOptions;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::server::{Reply, Setup, TestServer};

const PATH: &str = "/_synapse/admin/v1/register";

async fn server() -> TestServer {
    let mut server = TestServer::start_as(Setup { registration: Registration::Closed, ..Setup::default() }).await;
    let options = AdministrationOptions { registration_shared_secret: "secret".to_owned(), rate_limits: false };
    server.router = homeserver_client_api::administration(server.engine.clone(), options);
    server
}

fn mac(nonce: &str, admin: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(b"secret").unwrap();
    mac.update(format!("{nonce}\0alice\0wonderland-1865\0{admin}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

async fn nonce(server: &TestServer) -> String {
    server.get(PATH).await.body["nonce"].as_str().unwrap().to_owned()
}

async fn register(server: &TestServer, nonce: &str, mac: &str) -> Reply {
    let body: Value = json!({
        "nonce": nonce, "username": "alice", "password": "wonderland-1865", "admin": true, "mac": mac
    });
    server.post(PATH, body).await
}

#[tokio::test]
async fn whoever_knows_the_secret_makes_an_administrator_though_registration_is_closed() {
    let server = server().await;
    let nonce = nonce(&server).await;
    let reply = register(&server, &nonce, &mac(&nonce, "admin")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body["user_id"], "@alice:example.org");
    assert!(reply.body["access_token"].is_string());
    let account = server.engine.storage().account("@alice:example.org".try_into().unwrap()).await.unwrap().unwrap();
    assert!(account.admin);
}

#[tokio::test]
async fn a_wrong_mac_a_foreign_nonce_and_a_used_one_are_refused() {
    let server = server().await;
    let first = nonce(&server).await;
    assert_eq!(register(&server, &first, &mac(&first, "notadmin")).await.status, 403);
    assert_eq!(register(&server, &first, &mac(&first, "admin")).await.status, 400, "the nonce is spent");
    assert_eq!(register(&server, "made up", &mac("made up", "admin")).await.status, 400);
    let second = nonce(&server).await;
    assert_eq!(register(&server, &second, "no hexadecimal").await.status, 400);
}
