// What belongs to a user: sessions, profile, tags, account data, push rules, whom they ignore.

import assert from "node:assert/strict";
import { NotificationCountType, PushRuleKind } from "matrix-js-sdk";

import { PASSWORD, refused } from "./person.mjs";

/** What one session of a user keeps, the other is told. */
export async function data(bob, phone, room, friend) {
    const kept = (type) => phone.client.getAccountData(type)?.getContent();
    const keptOfRoom = (type) => phone.room(room).getAccountData(type)?.getContent();
    await bob.client.setRoomTag(room, "m.favourite", { order: 0.5 });
    await phone.until("the tag", () => phone.room(room).tags["m.favourite"]?.order === 0.5);
    await bob.client.deleteRoomTag(room, "m.favourite");
    await phone.until("no tag", () => !phone.room(room).tags["m.favourite"]);
    await bob.client.setAccountDataRaw("m.direct", { [friend.userId]: [room] });
    await phone.until("a direct chat", () => kept("m.direct")?.[friend.userId]?.[0] === room);
    await bob.client.setRoomAccountData(room, "m.marked_unread", { unread: true });
    await phone.until("marked unread", () => keptOfRoom("m.marked_unread")?.unread === true);
    await bob.client.setRoomAccountData(room, "m.marked_unread", { unread: false });
    await phone.until("no longer marked", () => keptOfRoom("m.marked_unread")?.unread === false);
    await bob.client.setAccountDataRaw("org.example.pot", { colour: "green" });
    await phone.until("the pot", () => kept("org.example.pot")?.colour === "green");
    await bob.client.deleteAccountData("org.example.pot");
    await phone.until("no pot", () => kept("org.example.pot")?.colour === undefined);
}

export async function profile(alice, bob, room) {
    const portrait = `mxc://${bob.server.name}/portrait`;
    const name = () => alice.room(room).getMember(bob.userId)?.rawDisplayName;
    await bob.client.setDisplayName("Robert");
    await alice.until("the new name", () => name() === "Robert");
    await bob.client.setAvatarUrl(portrait);
    await alice.until("the portrait", () => alice.room(room).getMember(bob.userId)?.getMxcAvatarUrl() === portrait);
    const shown = await alice.client.getProfileInfo(bob.userId);
    assert.deepEqual(shown, { displayname: "Robert", avatar_url: portrait });
    if (await bob.client.doesServerSupportExtendedProfiles()) {
        await bob.client.setExtendedProfileProperty("m.tz", "Europe/Berlin");
        assert.equal(await alice.client.getExtendedProfileProperty(bob.userId, "m.tz"), "Europe/Berlin");
    }
}

/** A word of one's own raises a highlight; a muted room raises nothing. */
export async function pushRules(alice, bob, phone, room) {
    const count = (type) => phone.room(room).getRoomUnreadNotificationCount(type);
    const rule = { pattern: "oolong", actions: ["notify", { set_tweak: "highlight" }] };
    await bob.client.addPushRule("global", PushRuleKind.ContentSpecific, "oolong", rule);
    await phone.until("the rule", () => {
        return phone.client.pushRules?.global.content.some(({ rule_id }) => rule_id === "oolong");
    });
    await alice.say(room, "There is Oolong left");
    await phone.until("the highlight", () => count(NotificationCountType.Highlight) === 1);
    await bob.client.deletePushRule("global", PushRuleKind.ContentSpecific, "oolong");
    await bob.client.setRoomMutePushRule("global", room, true);
    await phone.until("the mute", () => phone.client.getRoomPushRule("global", room));
    const event = await bob.sees(room, await alice.say(room, "Everything read"), "the last loud message");
    await bob.client.sendReceipt(event, "m.read", {}, false);
    await phone.until("nothing unread", () => count(NotificationCountType.Total) === 0);
    await phone.sees(room, await alice.say(room, "Unheard"), "a message in a muted room");
    assert.equal(count(NotificationCountType.Total), 0, "a muted room counts");
    await bob.client.setRoomMutePushRule("global", room, false);
    await alice.say(room, "Heard again");
    await phone.until("one unread", () => count(NotificationCountType.Total) === 1);
}

/** Nothing of an ignored user arrives, and everything of others does. */
export async function ignore(alice, bob, carol, room) {
    await bob.client.setIgnoredUsers([carol.userId]);
    await bob.until("the list", () => bob.client.isUserIgnored(carol.userId));
    const unheard = await carol.say(room, "Can you hear me?");
    await alice.sees(room, unheard, "what the ignored one says");
    const heard = await alice.say(room, "I can");
    await bob.sees(room, heard, "the next message");
    assert.equal(bob.find(room, unheard), undefined, "an ignored user was heard");
    await bob.client.setIgnoredUsers([]);
    await bob.until("an empty list", () => !bob.client.isUserIgnored(carol.userId));
    await bob.sees(room, await carol.say(room, "And now?"), "them again");
}

/** A new access token for the refresh token: the session goes on, and once it does, the old token is spent. */
export async function refresh(person) {
    const { client, credentials } = await person.logInAgain("refreshed");
    assert.ok(credentials.refresh_token && credentials.expires_in_ms, "no refresh token was given");
    const renewed = await client.refreshToken(credentials.refresh_token);
    assert.notEqual(renewed.access_token, credentials.access_token);
    assert.equal((await client.whoami()).user_id, person.userId, "the old token ended before the new one was used");
    client.setAccessToken(renewed.access_token);
    assert.equal((await client.whoami()).device_id, credentials.device_id);
    client.setAccessToken(credentials.access_token);
    await refused(client.whoami(), 401, "M_UNKNOWN_TOKEN");
    client.setAccessToken(renewed.access_token);
    const again = await client.refreshToken(renewed.refresh_token);
    client.setAccessToken(again.access_token);
    await client.logout();
    await refused(client.whoami(), 401, "M_UNKNOWN_TOKEN");
}

/** Sessions are listed, named, and removed with a password; a removed session is over. */
export async function sessions(person) {
    const [second, third] = [await person.logInAgain("second"), await person.logInAgain("third")];
    const ids = [second, third].map((session) => session.credentials.device_id);
    const names = async () => {
        const { devices } = await person.client.getDevices();
        return new Map(devices.map(({ device_id, display_name }) => [device_id, display_name]));
    };
    await person.client.setDeviceDetails(ids[0], { display_name: "second best" });
    assert.equal((await names()).get(ids[0]), "second best");
    const { data } = await refused(person.client.deleteDevice(ids[0]), 401);
    const identifier = { type: "m.id.user", user: person.userId };
    const auth = { type: "m.login.password", identifier, password: PASSWORD, session: data.session };
    await person.client.deleteDevice(ids[0], auth);
    await refused(second.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    await third.client.logout(true);
    await refused(third.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    const left = await names();
    assert.ok(!left.has(ids[0]) && !left.has(ids[1]), "a session outlived its end");
    assert.ok((await person.client.getOpenIdToken()).access_token);
}
