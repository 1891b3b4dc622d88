//! Edits, reactions, threads and references, as clients see them.

use serde_json::{Value, json};

use crate::server::{Session, TestServer, encode};

struct Scene<'a> {
    server: &'a TestServer,
    room_id: String,
    path: String,
}

impl<'a> Scene<'a> {
    async fn of(server: &'a TestServer, creator: &Session, others: &[&Session]) -> Self {
        let body = json!({ "preset": "public_chat" });
        let reply = server.post_as(creator, "/_matrix/client/v3/createRoom", body).await.ok();
        let room_id = reply["room_id"].as_str().unwrap().to_owned();
        let path = format!("/_matrix/client/v1/rooms/{}", encode(&room_id));
        for other in others {
            server.post_as(other, &format!("/_matrix/client/v3/join/{}", encode(&room_id)), json!({})).await.ok();
        }
        Self { server, room_id, path }
    }

    async fn try_send(&self, user: &Session, event_type: &str, content: &Value) -> crate::server::Reply {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = format!("/_matrix/client/v3/rooms/{}/send/{event_type}/t{number}", encode(&self.room_id));
        self.server.put_as(user, &path, content.clone()).await
    }

    async fn send(&self, user: &Session, content: &Value) -> String {
        let reply = self.try_send(user, "m.room.message", content).await.ok();
        reply["event_id"].as_str().unwrap().to_owned()
    }

    async fn say(&self, user: &Session, text: &str) -> String {
        self.send(user, &json!({ "msgtype": "m.text", "body": text })).await
    }

    async fn relate(&self, user: &Session, rel_type: &str, event_id: &str, text: &str) -> String {
        let relation = json!({ "rel_type": rel_type, "event_id": event_id });
        let new_content = json!({ "msgtype": "m.text", "body": text });
        let content = json!({
            "msgtype": "m.text", "body": text, "m.relates_to": relation, "m.new_content": new_content,
        });
        self.send(user, &content).await
    }

    async fn get(&self, user: &Session, rest: &str) -> Value {
        self.server.get_as(user, &format!("{}/{rest}", self.path)).await.ok()
    }

    async fn bundle(&self, user: &Session, event_id: &str) -> Value {
        let path = format!("/_matrix/client/v3/rooms/{}/event/{}", encode(&self.room_id), encode(event_id));
        self.server.get_as(user, &path).await.ok()["unsigned"]["m.relations"].clone()
    }

    async fn redact(&self, user: &Session, event_id: &str) {
        let (room, event) = (encode(&self.room_id), encode(event_id));
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/r{event}");
        self.server.put_as(user, &path, json!({})).await.ok();
    }
}

fn ids(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn relations_are_listed_by_kind_and_type_page_by_page() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room = Scene::of(&server, &alice, &[]).await;
    let parent = room.say(&alice, "root").await;
    let reply = room.relate(&alice, "m.thread", &parent, "reply").await;
    let thread = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": parent } });
    let dummy = room.try_send(&alice, "m.dummy", &thread).await.ok();
    let dummy = dummy["event_id"].as_str().unwrap();
    let edit = room.relate(&alice, "m.replace", &parent, "edited").await;
    let edit_of_reply = room.relate(&alice, "m.replace", &reply, "edited reply").await;
    let list = format!("relations/{}", encode(&parent));
    assert_eq!(ids(&room.get(&alice, &list).await), [&*edit, dummy, &*reply]);
    assert_eq!(ids(&room.get(&alice, &format!("{list}/m.thread")).await), [dummy, &*reply]);
    assert_eq!(ids(&room.get(&alice, &format!("{list}/m.thread/m.room.message")).await), [&*reply]);
    let recursive = room.get(&alice, &format!("{list}?recurse=true")).await;
    assert_eq!(ids(&recursive), [&*edit_of_reply, &*edit, dummy, &*reply]);
    assert_eq!(recursive["recursion_depth"], 3);

    // Both ways, two at a time.
    let first = room.get(&alice, &format!("{list}?limit=2")).await;
    assert_eq!(ids(&first), [&*edit, dummy]);
    let from = first["next_batch"].as_str().unwrap();
    let second = room.get(&alice, &format!("{list}?limit=2&from={from}")).await;
    assert_eq!((ids(&second), second.get("next_batch")), (vec![&*reply], None));
    let first = room.get(&alice, &format!("{list}?limit=2&dir=f")).await;
    assert_eq!(ids(&first), [&*reply, dummy]);
    let from = first["next_batch"].as_str().unwrap();
    let second = room.get(&alice, &format!("{list}?limit=2&dir=f&from={from}")).await;
    assert_eq!((ids(&second), second.get("next_batch")), (vec![&*edit], None));
    let none = room.get(&alice, &format!("{list}?from={from}&to={from}")).await;
    assert_eq!(ids(&none), Vec::<&str>::new());

    // A redacted event relates to nothing any more.
    room.redact(&alice, dummy).await;
    assert_eq!(ids(&room.get(&alice, &list).await), [&*edit, &*reply]);
}

#[tokio::test]
async fn the_last_valid_edit_is_bundled_everywhere() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = Scene::of(&server, &alice, &[&bob]).await;
    let event_id = room.say(&alice, "orignal").await;
    assert_eq!(room.bundle(&bob, &event_id).await, Value::Null);
    room.relate(&alice, "m.replace", &event_id, "original").await;
    server.clock.advance(std::time::Duration::from_secs(1));
    let last = room.relate(&alice, "m.replace", &event_id, "Original").await;
    // Not an edit: of another user, of an edit, without new content.
    room.relate(&bob, "m.replace", &event_id, "hacked").await;
    room.relate(&alice, "m.replace", &last, "edit of an edit").await;
    let empty = json!({ "body": "x", "m.relates_to": { "rel_type": "m.replace", "event_id": event_id } });
    room.send(&alice, &empty).await;
    let bundle = room.bundle(&bob, &event_id).await;
    assert_eq!(bundle["m.replace"]["event_id"], last);
    assert_eq!(bundle["m.replace"]["content"]["m.new_content"]["body"], "Original");
    assert_eq!(room.bundle(&bob, &last).await, Value::Null);
    let room_path = format!("/_matrix/client/v3/rooms/{}", encode(&room.room_id));
    for path in [format!("{room_path}/messages?dir=b&limit=50"), format!("{room_path}/context/{}", encode(&event_id))] {
        let reply = server.get_as(&bob, &path).await;
        assert!(reply.text.contains("m.relations"), "{path}: {}", reply.text);
    }
    let sync = server.get_as(&bob, "/_matrix/client/v3/sync?timeout=0").await;
    assert!(sync.text.contains("m.relations"), "{}", sync.text);
    // The edit before takes its place, and of a redacted event there is none.
    room.redact(&alice, &last).await;
    let bundle = room.bundle(&bob, &event_id).await;
    assert_eq!(bundle["m.replace"]["content"]["m.new_content"]["body"], "original");
    room.redact(&alice, &event_id).await;
    assert_eq!(room.bundle(&bob, &event_id).await, Value::Null);
}

#[tokio::test]
async fn threads_are_summed_up_and_listed_by_their_latest_event() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let room = Scene::of(&server, &alice, &[&bob, &carol]).await;
    let (one, two) = (room.say(&alice, "one").await, room.say(&bob, "two").await);
    let reply_one = room.relate(&bob, "m.thread", &one, "reply to one").await;
    let reply_two = room.relate(&bob, "m.thread", &two, "reply to two").await;
    let edit = room.relate(&bob, "m.replace", &reply_one, "edited").await;
    let thread = room.bundle(&alice, &one).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(1), &json!(true)));
    assert_eq!(thread["latest_event"]["event_id"], reply_one);
    assert_eq!(thread["latest_event"]["unsigned"]["m.relations"]["m.replace"]["event_id"], edit);
    assert_eq!(room.bundle(&carol, &one).await["m.thread"]["current_user_participated"], false);
    assert_eq!(ids(&room.get(&alice, "threads").await), [&*two, &*one]);
    assert_eq!(ids(&room.get(&alice, "threads?include=participated").await), [&*one]);
    assert_eq!(ids(&room.get(&carol, "threads?include=participated").await), Vec::<&str>::new());
    room.relate(&carol, "m.thread", &one, "another").await;
    let page = room.get(&alice, "threads?limit=1").await;
    assert_eq!(ids(&page), [&*one]);
    let from = page["next_batch"].as_str().unwrap();
    let page = room.get(&alice, &format!("threads?limit=1&from={from}")).await;
    assert_eq!((ids(&page), page.get("next_batch")), (vec![&*two], None));
    assert_eq!(room.bundle(&alice, &one).await["m.thread"]["count"], 2);

    // Whom one ignores does not count, nor makes a thread the latest.
    let ignored = json!({ "ignored_users": { &carol.user_id: {} } });
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    server.put_as(&alice, &path, ignored).await.ok();
    assert_eq!(room.bundle(&alice, &one).await["m.thread"]["count"], 1);
    assert_eq!(ids(&room.get(&alice, "threads").await), [&*two, &*one]);
    let list = room.get(&alice, &format!("relations/{}/m.thread", encode(&one))).await;
    assert_eq!(ids(&list), [&*reply_one]);

    // A redacted reply is gone; a thread without replies is none.
    room.redact(&bob, &reply_two).await;
    assert_eq!(ids(&room.get(&alice, "threads").await), [&*one]);
}

#[tokio::test]
async fn s_136_what_cannot_be_is_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = Scene::of(&server, &alice, &[&bob]).await;
    let parent = room.say(&alice, "root").await;
    let reply = room.relate(&alice, "m.thread", &parent, "reply").await;
    let nested = json!({ "body": "x", "m.relates_to": { "rel_type": "m.thread", "event_id": reply } });
    room.try_send(&alice, "m.room.message", &nested).await.assert_error(400, "M_UNKNOWN");
    let rich_reply = json!({ "body": "x", "m.relates_to": { "m.in_reply_to": { "event_id": parent } } });
    let rich_reply = room.send(&alice, &rich_reply).await;
    room.relate(&alice, "m.thread", &rich_reply, "a reply may become a thread").await;

    let thumb = |key: &str| json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": parent, "key": key } });
    let first = room.try_send(&alice, "m.reaction", &thumb("+1")).await.ok();
    room.try_send(&alice, "m.reaction", &thumb("+1")).await.assert_error(400, "M_DUPLICATE_ANNOTATION");
    room.try_send(&alice, "m.reaction", &thumb("-1")).await.ok();
    room.try_send(&bob, "m.reaction", &thumb("+1")).await.ok();
    room.redact(&alice, first["event_id"].as_str().unwrap()).await;
    room.try_send(&alice, "m.reaction", &thumb("+1")).await.ok();
    // Reactions are not bundled; references are.
    let reference = room.relate(&bob, "m.reference", &parent, "see above").await;
    let bundle = room.bundle(&alice, &parent).await;
    assert_eq!(bundle.get("m.annotation"), None);
    assert_eq!(bundle["m.reference"], json!({ "chunk": [{ "event_id": reference }] }));
    // Relations across rooms are none.
    let elsewhere = Scene::of(&server, &alice, &[]).await;
    elsewhere.relate(&alice, "m.replace", &parent, "hacked").await;
    assert_eq!(room.bundle(&alice, &parent).await.get("m.replace"), None);
    // Circles end.
    let list = room.get(&alice, &format!("relations/{}?recurse=true&limit=100", encode(&parent))).await;
    assert_eq!(list["chunk"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn s_131_and_s_127_relations_of_what_one_may_not_see_are_not_there() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = Scene::of(&server, &alice, &[&bob]).await;
    let parent = room.say(&alice, "root").await;
    room.relate(&alice, "m.thread", &parent, "before").await;
    let leave = format!("/_matrix/client/v3/rooms/{}/leave", encode(&room.room_id));
    server.post_as(&bob, &leave, json!({})).await.ok();
    let secret = room.relate(&alice, "m.thread", &parent, "sesame").await;
    room.relate(&alice, "m.replace", &parent, "sesame").await;
    let list = format!("{}/relations/{}", room.path, encode(&parent));
    let threads = format!("{}/threads", room.path);
    for path in [&list, &threads] {
        let reply = server.get_as(&bob, path).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!reply.text.contains("sesame") && !reply.text.contains(&secret), "{path}: {}", reply.text);
    }
    assert_eq!(room.bundle(&bob, &parent).await["m.thread"]["count"], 1);
    let other = Scene::of(&server, &alice, &[]).await;
    let path = format!("{}/relations/{}", other.path, encode(&parent));
    server.get_as(&alice, &path).await.assert_error(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn filters_look_at_relations() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = Scene::of(&server, &alice, &[&bob]).await;
    let parent = room.say(&alice, "root").await;
    let reply = room.relate(&bob, "m.thread", &parent, "reply").await;
    let reference = room.relate(&alice, "m.reference", &reply, "reference").await;
    let room_path = format!("/_matrix/client/v3/rooms/{}", encode(&room.room_id));
    for (filter, expected) in [
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), vec![&reply]),
        (json!({ "org.matrix.msc3874.not_rel_types": ["m.thread"] }), vec![&parent, &reference]),
        (json!({ "related_by_rel_types": ["m.thread"] }), vec![&parent]),
        (json!({ "related_by_senders": [alice.user_id] }), vec![&reply]),
        (json!({ "related_by_senders": [alice.user_id], "related_by_rel_types": ["m.thread"] }), vec![]),
    ] {
        let mut whole = filter.clone();
        whole["types"] = json!(["m.room.message"]);
        let path = format!("{room_path}/messages?dir=f&limit=50&filter={}", encode(&whole.to_string()));
        assert_eq!(ids(&server.get_as(&alice, &path).await.ok()), expected, "{filter}");
        let whole = json!({ "room": { "timeline": whole }, "event_fields": ["event_id", "content.body"] });
        let path = format!("/_matrix/client/v3/sync?filter={}", encode(&whole.to_string()));
        let sync = server.get_as(&alice, &path).await.ok();
        let timeline = &sync["rooms"]["join"][&room.room_id]["timeline"]["events"];
        let told: Vec<_> =
            timeline.as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap()).collect();
        assert_eq!(told, expected, "{filter}");
        assert!(timeline.as_array().unwrap().iter().all(|event| event.as_object().unwrap().len() == 2), "{timeline}");
    }
}
