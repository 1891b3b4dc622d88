// Two people in a room, however the second of them syncs: every kind of message, receipts, typing, presence.

import assert from "node:assert/strict";
import { Direction, NotificationCountType, SetPresence } from "matrix-js-sdk";

/** Creates a room, with both in it. */
export async function meet(alice, bob) {
    const { room_id: room } = await alice.client.createRoom({ name: "Tea", topic: "Leaves", preset: "private_chat" });
    await alice.becomes(room, "join");
    await alice.invites(bob, room);
    await bob.until("the name of the invitation", () => bob.room(room).name === "Tea");
    await bob.client.joinRoom(room);
    await Promise.all([bob.becomes(room, "join"), alice.becomes(room, "join", bob)]);
    await bob.until("name and topic", () => {
        return bob.room(room).name === "Tea" && bob.state(room, "m.room.topic")?.topic === "Leaves";
    });
    return room;
}

export async function talk(alice, bob, room) {
    const hello = await alice.say(room, "Hello Bob");
    const seen = await bob.sees(room, hello, "the greeting");
    assert.equal(seen.getContent().body, "Hello Bob");
    assert.equal(seen.getSender(), alice.userId);
    const reply = await bob.say(room, "Hello Alice", { "m.relates_to": { "m.in_reply_to": { event_id: hello } } });
    assert.equal((await alice.sees(room, reply, "the reply")).replyEventId, hello);
    await edit(alice, bob, room, hello);
    await react(alice, bob, room, hello);
    await redact(alice, bob, room, reply);
    return hello;
}

async function edit(alice, bob, room, original) {
    await alice.say(room, "* Hello, Bob!", {
        "m.new_content": { msgtype: "m.text", body: "Hello, Bob!" },
        "m.relates_to": { rel_type: "m.replace", event_id: original },
    });
    await bob.sees(room, original, "the edit", (event) => event.getContent().body === "Hello, Bob!");
    const asked = await bob.client.fetchRoomEvent(room, original);
    assert.equal(asked.content.body, "Hello Bob", "the event itself keeps its content");
    assert.equal(asked.unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "Hello, Bob!");
}

async function react(alice, bob, room, target) {
    const content = { "m.relates_to": { rel_type: "m.annotation", event_id: target, key: "tea" } };
    const { event_id: reaction } = await bob.client.sendEvent(room, "m.reaction", content);
    await alice.sees(room, reaction, "the reaction");
    const timelines = alice.room(room).getUnfilteredTimelineSet();
    const annotations = timelines.relations.getChildEventsForEvent(target, "m.annotation", "m.reaction");
    assert.deepEqual(annotations.getSortedAnnotationsByKey().map(([key, events]) => [key, events.size]), [["tea", 1]]);
    const again = bob.client.http.authedRequest("PUT", `/rooms/${room}/send/m.reaction/again`, {}, content);
    await assert.rejects(again, { errcode: "M_DUPLICATE_ANNOTATION", httpStatus: 400 });
    const { events } = await alice.client.relations(room, target, "m.annotation", "m.reaction");
    assert.deepEqual(events.map((event) => event.getId()), [reaction]);
}

async function redact(alice, bob, room, target) {
    await bob.client.redactEvent(room, target, undefined, { reason: "typo" });
    const redacted = await alice.sees(room, target, "the redaction", (event) => event.isRedacted());
    assert.deepEqual(redacted.getContent(), {});
    assert.equal((await alice.client.fetchRoomEvent(room, target)).content.body, undefined);
}

/** Replies in a thread arrive as a thread, and the server lists it. */
export async function thread(alice, bob, room) {
    const root = await alice.say(room, "Which leaves?");
    await bob.sees(room, root, "the question");
    const inThread = { "m.relates_to": { rel_type: "m.thread", event_id: root } };
    const first = await alice.say(room, "Green", inThread);
    const last = await alice.say(room, "Or black", inThread);
    await bob.until("the thread", () => bob.room(room).getThread(root)?.length === 2);
    // What a client does when its list of threads is opened.
    await alice.room(room).createThreadsTimelineSets();
    await alice.room(room).fetchRoomThreads();
    await alice.until("her own thread", () => alice.room(room).getThread(root)?.length === 2);
    const { chunk } = await bob.client.createThreadListMessagesRequest(room, null);
    assert.deepEqual(chunk.map((event) => event.event_id), [root]);
    assert.equal(chunk[0].unsigned["m.relations"]["m.thread"].count, 2);
    const { events } = await bob.client.relations(room, root, "m.thread", null, { dir: Direction.Forward });
    assert.deepEqual(new Set(events.map((event) => event.getId())), new Set([first, last]));
    return { root, last };
}

/**
 * Unread counts rise and fall to zero by public, private and threaded receipts. What `bob` reads, his other session
 * `phone` sees counted: a client that sends a receipt counts by itself.
 */
export async function read(alice, bob, phone, room) {
    const total = () => phone.room(room).getRoomUnreadNotificationCount(NotificationCountType.Total);
    const highlights = () => phone.room(room).getRoomUnreadNotificationCount(NotificationCountType.Highlight);
    const receipt = (type, event, threaded) => bob.client.sendReceipt(event, type, {}, threaded);
    const readBy = (event, type) => alice.room(room).getReadReceiptForUserId(bob.userId, true, type)?.eventId === event;

    const mention = { "m.mentions": { user_ids: [bob.userId] } };
    const first = await bob.sees(room, await alice.say(room, "Bob?", mention), "the mention");
    await phone.until("a highlight", () => total() > 0 && highlights() === 1);
    await receipt("m.read.private", first, false);
    await phone.until("nothing unread, by a private receipt", () => total() === 0 && highlights() === 0);
    const second = await bob.sees(room, await alice.say(room, "Are you there?"), "the second call");
    await phone.until("one unread", () => total() === 1);
    assert.ok(!readBy(first.getId(), "m.read"), "a private receipt was seen by another");
    await receipt("m.read", second, false);
    await phone.until("nothing unread, by a public receipt", () => total() === 0);
    await alice.until("the public receipt", () => readBy(second.getId(), "m.read"));
    await bob.client.setRoomReadMarkers(room, second.getId(), second);
    await phone.until("the fully-read marker", () => {
        return phone.room(room).getAccountData("m.fully_read")?.getContent().event_id === second.getId();
    });
}

export async function readThread(alice, bob, phone, room, { root }) {
    const inThread = () => phone.room(room).getThreadUnreadNotificationCount(root, NotificationCountType.Total);
    const content = { "m.relates_to": { rel_type: "m.thread", event_id: root } };
    const event = await bob.sees(room, await alice.say(room, "White?", content), "the third leaf");
    await phone.until("an unread thread", () => inThread() > 0);
    await bob.client.sendReceipt(event, "m.read", {});
    await phone.until("no unread thread", () => inThread() === 0);
    await alice.until("the threaded receipt", () => {
        return alice.room(room).getThread(root)?.getReadReceiptForUserId(bob.userId, true)?.eventId === event.getId();
    });
}

export async function type(alice, bob, room) {
    for (const [writer, watcher] of [[alice, bob], [bob, alice]]) {
        const typing = () => watcher.room(room).getMember(writer.userId)?.typing;
        await writer.client.sendTyping(room, true, 60_000);
        await watcher.until("somebody typing", typing);
        await writer.client.sendTyping(room, false, 0);
        await watcher.until("nobody typing", () => !typing());
    }
}

export async function appear(alice, bob) {
    await bob.client.setSyncPresence(SetPresence.Unavailable);
    await bob.client.setPresence({ presence: "unavailable", status_msg: "Away for tea" });
    await alice.until("the presence", () => {
        const user = alice.client.getUser(bob.userId);
        return user?.presence === "unavailable" && user.presenceStatusMsg === "Away for tea";
    });
    assert.equal((await alice.client.getPresence(bob.userId)).status_msg, "Away for tea");
    await bob.client.setSyncPresence(SetPresence.Online);
    await bob.client.setPresence({ presence: "online" });
    await alice.until("the return", () => alice.client.getUser(bob.userId)?.presence === "online");
}

/** Older messages: search, pages backwards, the surroundings of one, and one by its time. */
export async function lookBack(bob, room, hello) {
    const { results, count } = await bob.client.searchRoomEvents({ term: "leaves" });
    assert.ok(count >= 1 && results.length === count, `${results.length} of ${count} results`);
    assert.equal(results[0].context.getEvent().getContent().body, "Which leaves?");
    const { chunk } = await bob.client.createMessagesRequest(room, null, 100, Direction.Backward);
    assert.equal(chunk.at(-1).type, "m.room.create");
    const timeline = await bob.client.getEventTimeline(bob.room(room).getUnfilteredTimelineSet(), hello);
    assert.ok(timeline.getEvents().some((event) => event.getId() === hello));
    const { event_id: firstEvent } = await bob.client.timestampToEvent(room, 0, Direction.Forward);
    assert.equal(firstEvent, chunk.at(-1).event_id);
}
