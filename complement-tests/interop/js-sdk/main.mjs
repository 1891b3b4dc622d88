// matrix-js-sdk against our binary: with the classic sync and with sliding sync.

import assert from "node:assert/strict";

import * as account from "./account.mjs";
import * as conversation from "./conversation.mjs";
import * as encryption from "./encryption.mjs";
import { answers, Person } from "./person.mjs";
import * as rooms from "./rooms.mjs";
import { startUp } from "./start_up.mjs";

// The SDK tells the console everything that it does.
for (const level of ["trace", "debug", "info", "warn", "error"]) console[level] = () => {};
const server = { baseUrl: process.env.NUDGE_BASE_URL, name: process.env.NUDGE_SERVER_NAME };

async function step(name, action) {
    const start = performance.now();
    const result = await action();
    console.log(`  ${name}: passed (${Math.round(performance.now() - start)} ms)`);
    return result;
}

/** Everything without encryption, with `bob` syncing in the given way. */
async function evening(kind) {
    const [alice, bob, carol] = await Promise.all(
        ["alice", "bob", "carol"].map((name) => Person.register(server, `${name}-${kind}`)),
    );
    await Promise.all([alice.start(), bob.start(kind), carol.start()]);
    const named = (name, action) => step(`${kind} sync, ${name}`, action);
    const room = await named("meet", () => conversation.meet(alice, bob));
    // Sliding sync has no presence. Whoever has a second session is as present as the more present of the two.
    if (kind === "classic") await named("presence", () => conversation.appear(alice, bob));
    const phone = await (await bob.logInAgain("phone")).start();
    const hello = await named("talk", () => conversation.talk(alice, bob, room));
    const thread = await named("thread", () => conversation.thread(alice, bob, room));
    await named("read", () => conversation.read(alice, bob, phone, room));
    await named("read a thread", () => conversation.readThread(alice, bob, phone, room, thread));
    await named("type", () => conversation.type(alice, bob, room));
    await named("look back", () => conversation.lookBack(bob, room, hello));
    await named("account data", () => account.data(bob, phone, room, alice));
    await named("mutual rooms", async () => {
        assert.deepEqual(await alice.client._unstable_getSharedRooms(bob.userId), [room]);
    });
    await named("profile", () => account.profile(alice, bob, room));
    await named("push rules", () => account.pushRules(alice, bob, phone, room));
    await named("ignore", async () => {
        await alice.bringsIn(carol, room);
        await account.ignore(alice, bob, carol, room);
    });
    await named("delayed events", () => rooms.delay(alice, bob, room));
    const garden = await named("directories", () => rooms.directory(alice, bob, server));
    await named("space", () => rooms.space(alice, bob, server, garden));
    await named("knock", () => rooms.knock(alice, carol));
    const upgraded = await named("upgrade", () => rooms.upgrade(alice, bob, garden));
    await named("moderation", () => rooms.moderate(alice, bob, upgraded));
    await named("sessions", () => account.sessions(bob));
    await named("refresh", () => account.refresh(alice));
    [alice, bob, carol, phone].forEach((person) => person.stop());
}

async function secrets(kind) {
    const [alice, bob] = await Promise.all(
        ["dora", "emil"].map(async (name) => encryption.prepare(await Person.register(server, `${name}-${kind}`))),
    );
    await Promise.all([alice.start(), bob.start(kind)]);
    await step(`${kind} sync, cross-signing and backup`, () => encryption.identity(alice));
    await step(`${kind} sync, encryption`, () => encryption.secret(alice, bob));
    [alice, bob].forEach((person) => person.stop());
}

await step("what clients call at their start", () => startUp(server));
for (const kind of ["classic", "sliding"]) {
    await evening(kind);
    await secrets(kind);
}
const broken = [...answers.keys()].filter((line) => / 5\d\d /.test(line));
assert.deepEqual(broken, [], "the server failed");
console.log("matrix-js-sdk: passed");
process.exit(0);
