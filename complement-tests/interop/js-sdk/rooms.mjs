// What rooms are and become: upgraded, in spaces, listed, knocked at; and who may be in them.

import assert from "node:assert/strict";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";

import { refused } from "./person.mjs";

const via = (server) => ({ via: [server.name] });

/** Who follows a tombstone finds the new room, and from there the old one. */
export async function upgrade(alice, bob, old) {
    const { "m.room_versions": versions } = await alice.client.getCapabilities();
    const { replacement_room: replacement } = await alice.client.upgradeRoom(old, versions.default);
    const tombstone = await bob.until("the tombstone", () => bob.state(old, "m.room.tombstone"));
    assert.equal(tombstone.replacement_room, replacement);
    await bob.client.joinRoom(replacement);
    await bob.becomes(replacement, "join");
    await bob.until("the create event", () => bob.state(replacement, "m.room.create")?.predecessor?.room_id === old);
    assert.deepEqual(bob.client.getRoomUpgradeHistory(replacement).map((room) => room.roomId), [old, replacement]);
    await bob.until("the same name", () => bob.room(replacement).name === bob.room(old).name);
    return replacement;
}

export async function space(alice, bob, server, child) {
    const { room_id: id } = await alice.client.createRoom({
        name: "House of tea",
        preset: "public_chat",
        creation_content: { type: "m.space" },
    });
    await alice.becomes(id, "join");
    await alice.client.sendStateEvent(id, "m.space.child", via(server), child);
    await alice.client.sendStateEvent(child, "m.space.parent", { ...via(server), canonical: true }, id);
    await bob.client.joinRoom(id);
    await bob.until("a space", () => bob.room(id)?.isSpaceRoom());
    await bob.until("its child", () => bob.state(id, "m.space.child", child));
    const hierarchy = new RoomHierarchy(bob.room(id));
    await hierarchy.load();
    assert.deepEqual(hierarchy.rooms.map((room) => room.room_id), [id, child]);
    assert.ok(hierarchy.getRelation(id, child), "the room is not a child of the space");
    return id;
}

export async function directory(alice, bob, server) {
    const name = alice.userId.slice(1).split(":")[0];
    const alias = `#garden-of-${name}:${server.name}`;
    const { room_id: room } = await alice.client.createRoom({
        name: "Garden",
        topic: "Camellia sinensis",
        preset: "public_chat",
        visibility: "public",
        room_alias_name: `garden-of-${name}`,
    });
    const { chunk } = await bob.client.publicRooms({ filter: { generic_search_term: "camellia" } });
    assert.deepEqual(chunk.map((entry) => [entry.room_id, entry.canonical_alias]), [[room, alias]]);
    assert.equal((await bob.client.getRoomSummary(alias)).room_id, room);
    assert.equal((await bob.client.getRoomIdForAlias(alias)).room_id, room);
    await bob.client.joinRoom(alias);
    await bob.becomes(room, "join");
    await alice.client.createAlias(`#orchard-of-${name}:${server.name}`, room);
    assert.equal((await alice.client.getLocalAliases(room)).aliases.length, 2);
    await alice.client.deleteAlias(`#orchard-of-${name}:${server.name}`);
    await alice.client.setRoomDirectoryVisibility(room, "private");
    assert.equal((await bob.client.publicRooms({ filter: { generic_search_term: "camellia" } })).chunk.length, 0);
    assert.equal((await bob.client.searchUserDirectory({ term: name })).results[0].user_id, alice.userId);
    return room;
}

export async function knock(alice, carol) {
    const { room_id: room } = await alice.client.createRoom({
        name: "Cellar",
        initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
    });
    await refused(carol.client.joinRoom(room), 403, "M_FORBIDDEN");
    await carol.client.knockRoom(room, { reason: "Tea?" });
    await carol.becomes(room, "knock");
    await alice.becomes(room, "knock", carol);
    await alice.invites(carol, room);
    await carol.client.joinRoom(room);
    await alice.becomes(room, "join", carol);
}

/** Power levels, removal, ban, return, refusal, forgetting. */
export async function moderate(alice, bob, room) {
    await refused(bob.client.setRoomName(room, "Coffee"), 403, "M_FORBIDDEN");
    await alice.client.setPowerLevel(room, bob.userId, 50);
    await bob.until("the power", () => bob.state(room, "m.room.power_levels")?.users[bob.userId] === 50);
    await bob.client.setRoomName(room, "Coffee");
    await alice.until("the new name", () => alice.room(room).name === "Coffee");
    await alice.client.kick(room, bob.userId, "time for bed");
    await bob.becomes(room, "leave");
    await alice.invites(bob, room);
    await bob.client.leave(room);
    await alice.becomes(room, "leave", bob);
    await alice.client.ban(room, bob.userId, "enough");
    await alice.becomes(room, "ban", bob);
    await refused(bob.client.joinRoom(room), 403, "M_FORBIDDEN");
    await alice.client.unban(room, bob.userId);
    await alice.becomes(room, "leave", bob);
    await bob.client.forget(room, true);
    await refused(bob.client.createMessagesRequest(room, null, 10, "b"), 403, "M_FORBIDDEN");
}

/** What calls are made of: an event that is sent later, unless it is taken back. */
export async function delay(alice, bob, room) {
    const later = async (body, delayMs) => {
        const content = { msgtype: "m.text", body };
        const sent = alice.client._unstable_sendDelayedEvent(room, { delay: delayMs }, null, "m.room.message", content);
        return (await sent).delay_id;
    };
    const [never, now] = [await later("never", 600_000), await later("now", 600_000)];
    await alice.client._unstable_restartScheduledDelayedEvent(never);
    await alice.client._unstable_cancelScheduledDelayedEvent(never);
    await alice.client._unstable_sendScheduledDelayedEvent(now);
    await later("soon", 200);
    const bodies = () => bob.room(room).getLiveTimeline().getEvents().map((event) => event.getContent().body);
    await bob.until("what was due", () => bodies().includes("now") && bodies().includes("soon"));
    assert.ok(!bodies().includes("never"));
}
