//! Which threads users follow.

use axum::http::Method;
use serde_json::{Value, json};

use crate::server::{Reply, Session, TestServer, encode};

struct Thread<'a> {
    server: &'a TestServer,
    user: &'a Session,
    room_id: String,
    root: String,
}

impl<'a> Thread<'a> {
    async fn start(server: &'a TestServer, user: &'a Session, room_id: &str) -> Self {
        let root = server.say(user, room_id, "root", "root").await;
        Self { server, user, room_id: room_id.to_owned(), root }
    }

    async fn reply(&self, transaction: &str) -> String {
        let body = json!({
            "msgtype": "m.text", "body": "reply", "m.relates_to": { "rel_type": "m.thread", "event_id": self.root },
        });
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{transaction}", encode(&self.room_id));
        let sent = self.server.put_as(self.user, &path, body).await.ok();
        sent["event_id"].as_str().unwrap().to_owned()
    }

    async fn ask(&self, method: Method, body: Value) -> Reply {
        let (room_id, root) = (encode(&self.room_id), encode(&self.root));
        let path = format!("/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{root}/subscription");
        self.server.send(method, &path, Some(&self.user.token), &body).await
    }

    async fn follow(&self, cause: Option<&str>) -> Reply {
        self.ask(Method::PUT, cause.map_or(json!({}), |cause| json!({ "automatic": cause }))).await
    }

    async fn assert_followed(&self, automatic: Option<bool>) {
        let reply = self.ask(Method::GET, json!({})).await;
        match automatic {
            Some(automatic) => assert_eq!(reply.ok(), json!({ "automatic": automatic })),
            None => reply.assert_error(404, "M_NOT_FOUND"),
        }
    }
}

#[tokio::test]
async fn what_the_user_did_outweighs_what_a_client_does_of_itself() {
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let thread = Thread::start(&server, &alice, &room_id).await;
    thread.assert_followed(None).await;
    thread.ask(Method::DELETE, json!({})).await.ok();
    let first = thread.reply("1").await;
    thread.follow(Some(&first)).await.ok();
    thread.assert_followed(Some(true)).await;
    thread.follow(None).await.ok();
    thread.assert_followed(Some(false)).await;
    thread.follow(Some(&first)).await.ok();
    thread.assert_followed(Some(false)).await;
    // Whoever stopped is not made to follow again for what was there before.
    let second = thread.reply("2").await;
    thread.ask(Method::DELETE, json!({})).await.ok();
    thread.assert_followed(None).await;
    for before in [&first, &second] {
        thread.follow(Some(before)).await.assert_error(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION");
    }
    thread.assert_followed(None).await;
    let third = thread.reply("3").await;
    thread.follow(Some(&third)).await.ok();
    thread.assert_followed(Some(true)).await;
}

#[tokio::test]
async fn only_events_of_the_thread_are_a_reason_to_follow_it() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.register("alice").await, server.register("mallory").await);
    let room_id = server.private_room(&alice).await;
    let thread = Thread::start(&server, &alice, &room_id).await;
    let other = Thread { root: server.say(&alice, &room_id, "other", "other root").await, room_id, ..thread };
    let elsewhere = other.reply("1").await;
    let thread = Thread { root: thread.root, room_id: other.room_id.clone(), ..other };
    for cause in [&*thread.root, &elsewhere, "$nothing"] {
        thread.follow(Some(cause)).await.assert_error(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD");
    }
    thread.ask(Method::PUT, json!({ "automatic": 1 })).await.assert_error(400, "M_BAD_JSON");
    thread.assert_followed(None).await;
    // A stranger cannot tell this room from one that is not there.
    let stranger = Thread { user: &mallory, ..thread };
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        stranger.ask(method, json!({})).await.assert_error(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn clients_hear_which_threads_are_followed() {
    const SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0";
    const NAME: &str = "io.element.msc4308.thread_subscriptions";
    let server = TestServer::start().await;
    let alice = server.register("alice").await;
    let room_id = server.private_room(&alice).await;
    let mut threads = Vec::new();
    for number in 0..4 {
        let root = server.say(&alice, &room_id, &number.to_string(), "root").await;
        threads.push(Thread { server: &server, user: &alice, room_id: room_id.clone(), root });
    }
    let slide = async |pos: Option<&Value>| {
        let body = json!({ "pos": pos, "extensions": { NAME: { "enabled": true, "limit": 2 } } });
        server.post_as(&alice, SYNC, body).await.ok()
    };
    let start = slide(None).await;
    assert!(start["extensions"].get(NAME).is_none(), "{start}");
    for thread in &threads {
        thread.follow(None).await.ok();
    }
    threads[3].ask(Method::DELETE, json!({})).await.ok();
    let next = slide(Some(&start["pos"])).await;
    let told = &next["extensions"][NAME];
    assert_eq!(told["subscribed"].as_object().unwrap().len(), 1);
    let followed = &told["subscribed"][&room_id][&threads[2].root];
    assert!(followed["bump_stamp"].is_u64() && followed["automatic"] == false, "{told}");
    assert!(told["unsubscribed"][&room_id][&threads[3].root]["bump_stamp"].is_u64(), "{told}");
    // The rest is asked for in pages.
    let page = |from: &Value, limit: usize| {
        let from = encode(from.as_str().unwrap());
        format!("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?dir=b&from={from}&limit={limit}")
    };
    let second = server.get_as(&alice, &page(&told["prev_batch"], 1)).await.ok();
    assert!(second["subscribed"][&room_id][&threads[1].root].is_object(), "{second}");
    let third = server.get_as(&alice, &page(&second["end"], 1)).await.ok();
    assert!(third["subscribed"][&room_id][&threads[0].root].is_object() && third.get("end").is_none(), "{third}");
    server.get_as(&alice, &page(&json!("nonsense"), 1)).await.assert_error(400, "M_INVALID_PARAM");
    // Nothing new, and then something.
    let quiet = slide(Some(&next["pos"])).await;
    assert!(quiet["extensions"].get(NAME).is_none(), "{quiet}");
    threads[3].follow(None).await.ok();
    let last = slide(Some(&quiet["pos"])).await;
    assert!(last["extensions"][NAME]["subscribed"][&room_id][&threads[3].root].is_object(), "{last}");
}
