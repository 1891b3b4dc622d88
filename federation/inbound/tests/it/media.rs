//! Files, asked of us by other servers, and by us of them.

use std::time::Duration;

use engine::{EngineError, MediaAsker, Requester, UploadCommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use ruma::ServerName;

use crate::stage::{Stage, errcode};

async fn upload(stage: &Stage, user: &Requester, content: &'static str) -> String {
    let body = stream::iter([Ok(bytes::Bytes::from(content))]).boxed();
    let command = UploadCommand {
        content_type: Some("text/html".to_owned()),
        filename: Some("a\"b\r\nX: y".to_owned()),
        announced_bytes: None,
        body,
    };
    stage.engine.upload_media(&user.user_id, command).await.unwrap()
}

async fn fetch(stage: &Stage, user: &Requester, origin: &ServerName, media_id: &str) -> engine::Result<Vec<u8>> {
    let asker = MediaAsker::User(user.user_id.clone());
    let medium = stage.engine.medium(&asker, origin, media_id, Duration::from_secs(1)).await?;
    let pieces: Vec<_> = stage.engine.read_medium(&medium, 0..medium.size()).await?.try_collect().await.unwrap();
    Ok(pieces.concat())
}

#[tokio::test]
async fn s_145_what_our_users_upload_is_handed_out_in_two_parts() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    let media_id = upload(&stage, &alice, "<script>").await;
    let path = format!("/_matrix/federation/v1/media/download/{media_id}");
    let answer = stage.remote.get(&stage.name, &path).await;
    assert_eq!(answer.status(), 200);
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = content_type.strip_prefix("multipart/mixed; boundary=").unwrap();
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert_eq!(answer.headers()["content-length"], text.len().to_string());
    let parts: Vec<&str> = text.split(&format!("--{boundary}")).collect();
    assert_eq!(parts.len(), 4);
    assert_eq!(parts[1], "\r\nContent-Type: application/json\r\n\r\n{}\r\n");
    assert!(
        parts[2].starts_with("\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"a_bX: y\"")
    );
    assert!(parts[2].ends_with("\r\n\r\n<script>\r\n"), "{}", parts[2]);

    let quarantined_by = ruma::user_id!("@admin:test");
    stage.engine.quarantine_medium(quarantined_by, &stage.name, &media_id).await.unwrap();
    let thumbnail = format!("/_matrix/federation/v1/media/thumbnail/{media_id}?width=32&height=32");
    for path in [path.as_str(), thumbnail.as_str(), "/_matrix/federation/v1/media/download/..%2F..%2Fetc"] {
        let answer = stage.remote.get(&stage.name, path).await;
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{path}: {:?}", errcode(&answer));
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_way_is_asked_in_the_old_one() {
    let stage = Stage::new().await;
    let alice = stage.user("alice").await;
    stage
        .remote
        .on("/_matrix/federation/v1/media/", |_| http::Response::builder().status(400).body("?".into()).unwrap());
    stage.remote.on("/_matrix/media/v3/download/", |request| {
        let query = request.uri().query().unwrap_or_default();
        assert!(query.contains("allow_remote=false") && request.headers().get("authorization").is_none(), "{query}");
        http::Response::new("old".into())
    });
    let remote = stage.remote.name().to_owned();
    assert_eq!(fetch(&stage, &alice, &remote, "abc").await.unwrap(), b"old");
    stage.network.cut(&remote);
    assert_eq!(fetch(&stage, &alice, &remote, "abc").await.unwrap(), b"old", "it is kept");
    assert!(matches!(fetch(&stage, &alice, &remote, "def").await, Err(EngineError::CannotFederate(_))));
}
