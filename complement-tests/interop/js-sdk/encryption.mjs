// Two sessions with keys of their own: cross-signing, a backup, and a message that the server cannot read.

import assert from "node:assert/strict";

import { PASSWORD } from "./person.mjs";

/** Before the first sync: what a client with encryption does at its start. */
export async function prepare(person) {
    await person.client.initRustCrypto({ useIndexedDB: false });
    return person;
}

/** Sends cross-signing keys; with the password, where the server asks for it. */
export function withPassword(person) {
    const identifier = { type: "m.id.user", user: person.userId };
    return async (send) => {
        const { session } = await send(null).then(
            () => ({}),
            (error) => error.data,
        );
        return session && send({ type: "m.login.password", identifier, password: PASSWORD, session });
    };
}

export async function identity(person) {
    const crypto = person.client.getCrypto();
    await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: withPassword(person) });
    assert.ok(await crypto.isCrossSigningReady(), "cross-signing is not ready");
    await crypto.resetKeyBackup();
    await crypto.checkKeyBackupAndEnable();
    assert.ok(await crypto.getActiveSessionBackupVersion(), "no backup is in use");
}

export async function secret(alice, bob) {
    const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
    const { room_id: room } = await alice.client.createRoom({ name: "Recipe", initial_state: [encryption] });
    await alice.becomes(room, "join");
    await alice.bringsIn(bob, room);
    for (const person of [alice, bob]) {
        await person.until("encryption", () => person.room(room).hasEncryptionStateEvent());
    }
    for (const [writer, reader] of [[alice, bob], [bob, alice]]) {
        const event = await writer.say(room, `From ${writer.userId}`);
        const read = (seen) => !seen.isDecryptionFailure() && seen.getContent().body === `From ${writer.userId}`;
        await reader.sees(room, event, "the secret", read);
        const stored = await reader.client.fetchRoomEvent(room, event);
        assert.equal(stored.type, "m.room.encrypted");
    }
    return room;
}
