//! Two people in a room: every kind of message, receipts, typing, presence.

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, pin_mut};
use matrix_sdk::{
    RoomState,
    room::edit::EditedContent,
    ruma::{
        OwnedEventId, OwnedRoomId, RoomId,
        api::{
            client::{
                presence::{get_presence, set_presence},
                receipt::create_receipt::v3::ReceiptType,
                room::create_room,
                search::search_events,
            },
            error::ErrorKind,
        },
        events::{
            Mentions,
            reaction::ReactionEventContent,
            receipt::{ReceiptThread, ReceiptType as SeenReceiptType},
            relation::{Annotation, Thread},
            room::message::{Relation, RoomMessageEventContent, RoomMessageEventContentWithoutRelation},
        },
        presence::PresenceState,
    },
};
use matrix_sdk_ui::{
    eyeball_im::Vector,
    room_list_service::{RoomListItem, filters::new_filter_all},
    timeline::{RoomExt as _, TimelineFocus},
};
use tokio::time::timeout;

use crate::person::{DEADLINE, Person, by_id};

const ROOM_LIST_PAGE: usize = 20;

/// Creates a room, with both in it.
pub async fn meet(alice: &Person, bob: &Person) -> Result<OwnedRoomId> {
    let mut request = create_room::v3::Request::new();
    request.name = Some("Tea".to_owned());
    request.topic = Some("Leaves".to_owned());
    request.invite = vec![bob.user_id().to_owned()];
    let room_id = alice.create_room(request).await?;
    let invitation = bob.room(&room_id, RoomState::Invited).await?;
    bob.until_true("the name of the invitation", async || Ok(invitation.name().as_deref() == Some("Tea"))).await?;
    let inviter = invitation.invite_details().await?.inviter.context("no inviter")?;
    ensure!(inviter.user_id() == alice.user_id());
    let room = bob.joins(&room_id, alice).await?;
    bob.until_true("the topic", async || Ok(room.topic().as_deref() == Some("Leaves"))).await?;
    Ok(room_id)
}

/// What the first screen of an application shows.
pub async fn list(bob: &Person, room_id: &RoomId) -> Result<()> {
    let rooms = bob.service()?.room_list_service().all_rooms().await?;
    let (entries, controller) = rooms.entries_with_dynamic_adapters(ROOM_LIST_PAGE);
    controller.set_filter(Box::new(new_filter_all(vec![])));
    pin_mut!(entries);
    let mut shown = Vector::new();
    while !shown.iter().any(|room: &RoomListItem| room.room_id() == room_id) {
        let changes = timeout(DEADLINE, entries.next()).await.context("the room list stays empty")?;
        changes.context("the room list ended")?.into_iter().for_each(|change| change.apply(&mut shown));
    }
    Ok(())
}

pub async fn talk(alice: &Person, bob: &Person, room_id: &RoomId) -> Result<()> {
    let (hers, his) = (alice.timeline(room_id).await?, bob.timeline(room_id).await?);
    let hello = alice.say(room_id, "Hello Bob").await?;
    let seen = bob.item(&his, &hello, "the greeting", |item| item.content().is_message()).await?;
    ensure!(seen.sender() == alice.user_id());

    his.send_reply(RoomMessageEventContentWithoutRelation::text_plain("Hello Alice"), hello.clone()).await?;
    let reply = alice
        .until("the reply", async || {
            let items = hers.items().await;
            let mut events = items.iter().filter_map(|item| item.as_event());
            let reply = events.find(|item| item.content().in_reply_to().is_some_and(|to| to.event_id == hello));
            Ok(reply
                .filter(|item| item.sender() == bob.user_id())
                .and_then(|item| item.event_id().map(ToOwned::to_owned)))
        })
        .await?;

    let edited = RoomMessageEventContentWithoutRelation::text_plain("Hello, Bob!");
    alice.item(&hers, &hello, "her own message", |item| item.is_editable()).await?;
    hers.edit(&by_id(&hello), EditedContent::RoomMessage(edited)).await?;
    bob.item(&his, &hello, "the edit", |item| {
        item.content().as_message().is_some_and(|message| message.is_edited() && message.body() == "Hello, Bob!")
    })
    .await?;
    react(alice, bob, room_id, &hello).await?;

    his.redact(&by_id(&reply), Some("typo")).await?;
    alice.item(&hers, &reply, "the redaction", |item| item.content().is_redacted()).await?;
    Ok(())
}

async fn react(alice: &Person, bob: &Person, room_id: &RoomId, target: &OwnedEventId) -> Result<()> {
    let (hers, his) = (alice.timeline(room_id).await?, bob.timeline(room_id).await?);
    bob.item(&his, target, "what to react to", |_| true).await?;
    ensure!(his.toggle_reaction(&by_id(target), "tea").await?);
    alice
        .item(&hers, target, "the reaction", |item| {
            let reactions = item.content().reactions();
            reactions
                .and_then(|by_key| by_key.get("tea"))
                .is_some_and(|by_sender| by_sender.contains_key(bob.user_id()))
        })
        .await?;
    let again = ReactionEventContent::new(Annotation::new(target.clone(), "tea".to_owned()));
    let refusal = bob.joined(room_id).await?.send(again).await.err().context("a reaction was taken twice")?;
    let kind = refusal.client_api_error_kind().context("no errcode")?;
    ensure!(*kind == ErrorKind::DuplicateAnnotation, "{kind:?}");
    Ok(())
}

/// A thread, as the timeline, the list of threads and the timeline of the thread show it.
pub async fn thread(alice: &Person, bob: &Person, room_id: &RoomId) -> Result<()> {
    let root = alice.say(room_id, "Which leaves?").await?;
    let mut last = root.clone();
    for body in ["Green", "Or black"] {
        let mut content = RoomMessageEventContent::text_plain(body);
        content.relates_to = Some(Relation::Thread(Thread::plain(root.clone(), last)));
        last = alice.send(room_id, content).await?;
    }
    let his = bob.timeline(room_id).await?;
    bob.item(&his, &root, "the summary of the thread", |item| {
        item.content().thread_summary().is_some_and(|summary| summary.num_replies == 2)
    })
    .await?;
    let room = bob.joined(room_id).await?;
    let threads = room.thread_list_service();
    threads.paginate().await?;
    let listed: Vec<_> = threads.items().into_iter().map(|item| (item.root_event.event_id, item.num_replies)).collect();
    ensure!(listed == [(root.clone(), 2)], "{listed:?}");
    let focus = TimelineFocus::Thread { root_event_id: root };
    let focused = room.timeline_builder().with_focus(focus).build().await?;
    focused.paginate_backwards(10).await?;
    bob.item(&focused, &last, "the end of the thread", |_| true).await?;
    Ok(())
}

/// Unread counts rise and fall to zero by receipts, as another session of the reader is told.
pub async fn read(alice: &Person, bob: &Person, phone: &Person, room_id: &RoomId) -> Result<()> {
    let (reader, counting) = (bob.joined(room_id).await?, phone.joined(room_id).await?);
    let counts = || {
        let counts = counting.unread_notification_counts();
        (counts.notification_count, counts.highlight_count)
    };
    let mention =
        RoomMessageEventContent::text_plain("Bob?").add_mentions(Mentions::with_user_ids([bob.user_id().to_owned()]));
    let first = alice.send(room_id, mention).await?;
    phone.until_true("a highlight", async || Ok(counts().0 > 0 && counts().1 == 1)).await?;
    reader.send_single_receipt(ReceiptType::ReadPrivate, ReceiptThread::Unthreaded, first.clone()).await?;
    phone.until_true("nothing unread, by a private receipt", async || Ok(counts() == (0, 0))).await?;
    let second = alice.say(room_id, "Are you there?").await?;
    phone.until_true("one unread", async || Ok(counts() == (1, 0))).await?;
    reader.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, second.clone()).await?;
    phone.until_true("nothing unread, by a public receipt", async || Ok(counts() == (0, 0))).await?;
    let hers = alice.joined(room_id).await?;
    alice
        .until_true("the public receipt", async || {
            let receipt =
                hers.load_user_receipt(SeenReceiptType::Read, ReceiptThread::Unthreaded, bob.user_id()).await?;
            Ok(receipt.is_some_and(|(event_id, _)| event_id == second))
        })
        .await
}

pub async fn typing(alice: &Person, bob: &Person, room_id: &RoomId) -> Result<()> {
    for (writer, watcher) in [(alice, bob), (bob, alice)] {
        let watched = watcher.joined(room_id).await?;
        let (_guard, mut typing) = watched.subscribe_to_typing_notifications();
        let room = writer.joined(room_id).await?;
        for is_typing in [true, false] {
            room.typing_notice(is_typing).await?;
            let expected = if is_typing { vec![writer.user_id().to_owned()] } else { vec![] };
            while timeout(DEADLINE, typing.recv()).await.context("nobody was seen typing")?? != expected {}
        }
    }
    Ok(())
}

pub async fn presence(alice: &Person, bob: &Person) -> Result<()> {
    let mut request = set_presence::v3::Request::new(bob.user_id().to_owned(), PresenceState::Unavailable);
    request.status_msg = Some("Away for tea".to_owned());
    bob.client.send(request).await?;
    alice
        .until_true("the status", async || {
            let seen = alice.client.send(get_presence::v3::Request::new(bob.user_id().to_owned())).await?;
            Ok(seen.status_msg.as_deref() == Some("Away for tea"))
        })
        .await
}

pub async fn search(bob: &Person) -> Result<()> {
    let mut categories = search_events::v3::Categories::new();
    categories.room_events = Some(search_events::v3::Criteria::new("black".to_owned()));
    let found = bob.client.send(search_events::v3::Request::new(categories)).await?.search_categories.room_events;
    ensure!(found.results.len() == 1, "{} results", found.results.len());
    Ok(())
}
