// One session of matrix-js-sdk that does what it is told by lines of JSON, for encryption.py.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";

import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/recovery-key.js";
import { VerificationPhase, VerificationRequestEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/verification.js";

import { prepare, withPassword } from "./encryption.mjs";
import { Person } from "./person.mjs";

for (const level of ["trace", "debug", "info", "warn", "error"]) console[level] = () => {};

let person;
let recoveryKey;
let sas;
let verified;
const requests = [];

const cryptoCallbacks = {
    getSecretStorageKey: async ({ keys }) => (recoveryKey ? [Object.keys(keys)[0], recoveryKey] : null),
    cacheSecretStorageKey: (_id, _info, key) => (recoveryKey = key),
};
const crypto = () => person.client.getCrypto();

async function start(session) {
    person = await prepare(session);
    person.client.on(CryptoEvent.VerificationRequestReceived, (request) => requests.push(request));
    await person.start();
    const { user_id, device_id, access_token } = person.credentials;
    return { user_id, device_id, access_token };
}

/** Waits for a phase of a verification. */
async function phase(request, wanted) {
    await new Promise((resolve, reject) => {
        const check = () => {
            if (request.phase === VerificationPhase.Cancelled) reject(new Error(`cancelled: ${request.cancellationCode}`));
            if (request.phase >= wanted) resolve();
        };
        request.on(VerificationRequestEvent.Change, check);
        check();
    });
}

async function emojis(verifier) {
    const shown = new Promise((resolve) => verifier.once(VerifierEvent.ShowSas, resolve));
    verified = verifier.verify();
    verified.catch(() => {});
    sas = verifier.getShowSasCallbacks() ?? (await Promise.race([shown, verified]));
    return sas.sas.emoji.map(([symbol]) => symbol);
}

async function decrypted(room, eventId) {
    const raw = await person.client.fetchRoomEvent(room, eventId);
    assert.equal(raw.type, "m.room.encrypted");
    const event = person.client.getEventMapper({ decrypt: false })(raw);
    await person.client.decryptEventIfNeeded(event);
    return event.isDecryptionFailure() ? undefined : event.getContent().body;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until an asynchronous check gives something. */
async function until(what, check, deadline_ms = 90_000) {
    for (const end = Date.now() + deadline_ms; Date.now() < end; await pause(250)) {
        const found = await check();
        if (found) return found;
    }
    throw new Error(`${person.userId} never saw ${what}`);
}

/** Takes the cross-signing keys out of the secret storage. */
async function unlock(key) {
    recoveryKey = decodeRecoveryKey(key);
    await until("the own identity", () => crypto().userHasCrossSigningKeys(person.userId, true));
    await crypto().bootstrapCrossSigning({});
}

const actions = {
    register: async ({ server, name }) => start(await Person.register(server, name, { cryptoCallbacks })),
    log_in: async ({ server, user }) => start(await Person.logIn(server, user, "later", { cryptoCallbacks })),
    log_out: async () => {
        await person.client.logout(true);
    },
    create_room: async () => {
        const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } };
        const { room_id } = await person.client.createRoom({ preset: "private_chat", initial_state: [encryption] });
        await person.becomes(room_id, "join");
        return room_id;
    },
    invite: async ({ room, user }) => {
        await person.client.invite(room, user);
    },
    join: async ({ room }) => {
        await person.becomes(room, "invite");
        await person.client.joinRoom(room);
        await person.becomes(room, "join");
    },
    leave: async ({ room }) => {
        await person.client.leave(room);
    },
    sees_member: async ({ room, user, membership }) => {
        await person.becomes(room, membership, { userId: user });
    },
    sees_device: async ({ user, device, present }) => {
        await until(`${device}: ${present}`, async () => {
            const devices = await crypto().getUserDeviceInfo([user], true);
            return (devices.get(user)?.has(device) ?? false) === present;
        });
    },
    say: async ({ room, body }) => {
        await until("encryption", () => crypto().isEncryptionEnabledInRoom(room));
        return person.say(room, body);
    },
    reads: async ({ room, event, body }) => {
        // It may be on its way from another server.
        const text = () => decrypted(room, event).catch(({ errcode }) => assert.equal(errcode, "M_NOT_FOUND"));
        await until(body, async () => (await text()) === body);
    },
    cannot_read: async ({ room, event }) => {
        assert.equal(await decrypted(room, event), undefined, "it can read that");
    },
    cross_sign: async () => {
        await crypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: withPassword(person) });
        assert.ok(await crypto().isCrossSigningReady());
    },
    sees_verified: async ({ user, device }) => {
        await until(`${device} verified`, async () => {
            const status = await crypto().getDeviceVerificationStatus(user, device);
            if (!status?.signedByOwner) await crypto().getUserDeviceInfo([user], true);
            return status?.signedByOwner;
        });
    },
    request_verification: async () => {
        const request = await until("other devices", () => crypto().requestOwnUserVerification().catch(() => undefined));
        await phase(request, VerificationPhase.Ready);
        return emojis(await request.startVerification("m.sas.v1"));
    },
    request_verification_in_room: async ({ room, user }) => {
        const request = await crypto().requestVerificationDM(user, room);
        await phase(request, VerificationPhase.Ready);
        return emojis(await request.startVerification("m.sas.v1"));
    },
    sees_user_verified: async ({ user }) => {
        await until(`${user} verified`, async () => (await crypto().getUserVerificationStatus(user)).isVerified());
    },
    accept_verification: async () => {
        const request = await until("a request", () => requests.shift());
        await request.accept();
        await phase(request, VerificationPhase.Started);
        return emojis(await until("a verifier", () => request.verifier));
    },
    confirm: async () => {
        await sas.confirm();
        await verified;
    },
    back_up: async () => {
        const key = await crypto().createRecoveryKeyFromPassphrase();
        const createSecretStorageKey = async () => key;
        await crypto().bootstrapSecretStorage({
            createSecretStorageKey,
            setupNewSecretStorage: true,
            setupNewKeyBackup: true,
        });
        await crypto().checkKeyBackupAndEnable();
        assert.ok(await crypto().getActiveSessionBackupVersion(), "no backup is in use");
        return key.encodedPrivateKey;
    },
    restore: async ({ key }) => {
        await unlock(key);
        await crypto().loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto().checkKeyBackupAndEnable();
        const { imported } = await crypto().restoreKeyBackup();
        assert.ok(imported > 0, "nothing was in the backup");
    },
    dehydrate: async () => {
        await crypto().startDehydration();
    },
    rehydrate: async ({ key }) => {
        await unlock(key);
        await crypto().startDehydration();
    },
};

process.on("unhandledRejection", () => {});
for await (const line of createInterface({ input: process.stdin })) {
    const { act, ...more } = JSON.parse(line);
    const answer = await actions[act](more).then(
        (value) => ({ value: value ?? null }),
        (error) => ({ error: error.stack ?? String(error) }),
    );
    process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
