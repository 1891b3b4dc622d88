//! Letters about what is not read.

use std::time::Duration;

use axum::http::Request;
use homeserver_client_api::Options;
use serde_json::json;
use storage::ThirdPartyId;

use super::{list, set, shared_room};
use crate::{
    mail::with_mail,
    server::{Session, TestServer},
};

const ADDRESS: &str = "bob@mail.example";

async fn flush(server: &TestServer) {
    server.engine.flush_pushers().await.unwrap();
}

async fn letters_to(server: &TestServer, user: &Session) {
    letters_at(server, user, ADDRESS).await;
}

async fn letters_at(server: &TestServer, user: &Session, address: &str) {
    let id = ThirdPartyId {
        medium: "email".to_owned(),
        address: address.to_owned(),
        user_id: (&*user.user_id).try_into().unwrap(),
        validated_ts: 0,
        added_ts: 0,
    };
    server.engine.storage().add_third_party_id(&id).await.unwrap();
    set(server, user, email(address)).await.ok();
}

fn email(address: &str) -> serde_json::Value {
    json!({
        "app_id": "m.email",
        "pushkey": address,
        "kind": "email",
        "app_display_name": "Letters",
        "device_display_name": "Mailbox",
        "lang": "en",
        "data": { "brand": "Nudge" },
    })
}

#[tokio::test]
async fn what_is_not_read_for_long_enough_comes_in_one_letter() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = shared_room(&server, &alice, &bob).await;
    set(&server, &bob, email(ADDRESS)).await.assert_error(400, "M_INVALID_PARAM");
    letters_to(&server, &bob).await;
    server.say(&alice, &room_id, "1", "<b>one</b>").await;
    flush(&server).await;
    server.clock.advance(Duration::from_mins(9));
    server.say(&alice, &room_id, "2", "two").await;
    flush(&server).await;
    assert_eq!(mailbox.count(), 0, "who is there reads it meanwhile");
    server.clock.advance(Duration::from_mins(1));
    flush(&server).await;
    flush(&server).await;
    assert_eq!(mailbox.count(), 1);
    let letter = mailbox.last().replace("=\n", "").replace("=3D", "=");
    for part in ["To: bob@mail.example", "2 unread messages", "<b>one</b>", "&lt;b&gt;one&lt;/b&gt;", "two", "Plans"] {
        assert!(letter.contains(part), "{part}: {letter}");
    }
    assert!(letter.contains("List-Unsubscribe: <https://matrix.example.org/_nudge/client/v1/unsubscribe?secret="));
    // The next one takes longer.
    server.say(&alice, &room_id, "3", "three").await;
    flush(&server).await;
    server.clock.advance(Duration::from_mins(19));
    flush(&server).await;
    assert_eq!(mailbox.count(), 1);
    server.clock.advance(Duration::from_mins(1));
    flush(&server).await;
    assert_eq!(mailbox.count(), 2);
    // Who has read gets none.
    let last = server.say(&alice, &room_id, "4", "four").await;
    let receipt = format!("/_matrix/client/v3/rooms/{room_id}/receipt/m.read/{last}");
    server.post_as(&bob, &receipt, json!({})).await.ok();
    server.clock.advance(Duration::from_hours(30));
    flush(&server).await;
    assert_eq!(mailbox.count(), 2);
}

#[tokio::test]
async fn letters_are_ended_by_whoever_reads_them_and_with_the_address() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = shared_room(&server, &alice, &bob).await;
    letters_to(&server, &bob).await;
    server.say(&alice, &room_id, "1", "one").await;
    flush(&server).await;
    server.clock.advance(Duration::from_mins(10));
    flush(&server).await;
    let letter = mailbox.last().replace("=\n", "").replace("=3D", "=");
    let (_, secret) = letter.split_once("unsubscribe?secret=").unwrap();
    let path = format!("/_nudge/client/v1/unsubscribe?secret={}", &secret[..32]);
    assert_eq!(server.get(&path).await.status, 200);
    assert_eq!(list(&server, &bob).await.as_array().unwrap().len(), 1, "looking at the page ends nothing");
    let ask = || Request::post(&path).body("List-Unsubscribe=One-Click".into()).unwrap();
    assert_eq!(server.request(ask()).await.status, 200);
    assert_eq!(list(&server, &bob).await, json!([]));
    assert_eq!(server.request(ask()).await.status, 400);
    set(&server, &bob, email(ADDRESS)).await.ok();
    let bob_id: &ruma::UserId = (&*bob.user_id).try_into().unwrap();
    server.engine.storage().delete_third_party_id(bob_id, "email", ADDRESS).await.unwrap();
    server.say(&alice, &room_id, "2", "two").await;
    server.clock.advance(Duration::from_hours(1));
    flush(&server).await;
    assert_eq!((mailbox.count(), list(&server, &bob).await), (1, json!([])));
}

#[tokio::test]
async fn many_messages_make_one_letter() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room_id = shared_room(&server, &alice, &bob).await;
    letters_to(&server, &bob).await;
    for number in 0..120 {
        server.say(&alice, &room_id, &format!("m{number}"), "again").await;
    }
    flush(&server).await;
    server.clock.advance(Duration::from_mins(10));
    flush(&server).await;
    assert_eq!(mailbox.count(), 1);
    assert!(mailbox.last().contains("120 unread messages"));
    server.clock.advance(Duration::from_hours(48));
    flush(&server).await;
    assert_eq!(mailbox.count(), 1, "nothing came since");
    // The pause counts from the letter on, not from each message.
    server.say(&alice, &room_id, "later", "later").await;
    flush(&server).await;
    server.clock.advance(Duration::from_mins(10));
    flush(&server).await;
    assert_eq!(mailbox.count(), 2);
}

#[tokio::test]
async fn while_the_mail_server_is_down_one_letter_at_a_time_tries_it() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let alice = server.register("alice").await;
    let mut readers = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let reader = server.register(name).await;
        let room_id = shared_room(&server, &alice, &reader).await;
        letters_at(&server, &reader, &format!("{name}@mail.example")).await;
        server.say(&alice, &room_id, name, "hello").await;
        readers.push(reader);
    }
    flush(&server).await;
    server.clock.advance(Duration::from_mins(10));
    mailbox.refuse("", "421 closing down");
    flush(&server).await;
    assert_eq!((mailbox.asked(), mailbox.count()), (1, 0), "the others wait for the same mail server");
    flush(&server).await;
    assert_eq!(mailbox.asked(), 0, "too early");
    for _ in 0..30 {
        server.clock.advance(Duration::from_hours(1));
        flush(&server).await;
        assert!(mailbox.asked() <= 1);
    }
    mailbox.take_all();
    for _ in 0..2 {
        server.clock.advance(Duration::from_mins(15));
        flush(&server).await;
    }
    assert_eq!(mailbox.count(), 3, "however long that lasted, nobody was given up");
}

#[tokio::test]
async fn a_mailbox_that_takes_nothing_gets_nothing_more_in_the_end() {
    let (server, mailbox) = with_mail(Options::default(), false).await;
    let (alice, bob, carol) =
        (server.register("alice").await, server.register("bob").await, server.register("carol").await);
    let room_id = shared_room(&server, &alice, &bob).await;
    let other = shared_room(&server, &alice, &carol).await;
    letters_to(&server, &bob).await;
    letters_at(&server, &carol, "carol@mail.example").await;
    mailbox.refuse(ADDRESS, "550 5.1.1 no such mailbox");
    server.say(&alice, &room_id, "1", "one").await;
    server.say(&alice, &other, "2", "two").await;
    flush(&server).await;
    server.clock.advance(Duration::from_mins(10));
    flush(&server).await;
    assert_eq!(mailbox.count(), 1, "others have theirs");
    mailbox.asked();
    let mut days = 0;
    while !list(&server, &bob).await.as_array().unwrap().is_empty() {
        server.clock.advance(Duration::from_hours(30));
        flush(&server).await;
        days += 1;
        assert!(days < 20);
    }
    assert_eq!(mailbox.asked(), 9, "ten times in all");
    assert_eq!(list(&server, &carol).await.as_array().unwrap().len(), 1);
    // Busy for now is no reason to end anything.
    mailbox.refuse("carol", "452 4.2.2 mailbox full");
    server.say(&alice, &other, "3", "three").await;
    flush(&server).await;
    for _ in 0..15 {
        server.clock.advance(Duration::from_hours(30));
        flush(&server).await;
    }
    assert_eq!(list(&server, &carol).await.as_array().unwrap().len(), 1);
    mailbox.take_all();
    server.clock.advance(Duration::from_hours(30));
    flush(&server).await;
    assert_eq!(mailbox.count(), 2);
}
