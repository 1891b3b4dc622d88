// A user with a client of matrix-js-sdk that syncs, and what tests ask of it.

import { ClientEvent, createClient, RoomEvent, SyncState } from "matrix-js-sdk";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";

export const PASSWORD = "correct horse battery staple";
const LONG_POLL_MS = 10_000;
const DEADLINE_MS = 120_000;
const TICK_MS = 250;
const TIMELINE_LIMIT = 20;

const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, getChild: () => silent };

/** What the server answered with in the course of the run: "GET /path 404 M_NOT_FOUND" -> how often. */
export const answers = new Map();

async function recordingFetch(resource, options) {
    const response = await fetch(resource, options);
    const errcode = response.ok ? "" : (await response.clone().json()).errcode;
    const line = `${options?.method ?? "GET"} ${new URL(resource).pathname} ${response.status} ${errcode}`.trim();
    answers.set(line, (answers.get(line) ?? 0) + 1);
    return response;
}

function clientOf(server, options = {}) {
    const fixed = { baseUrl: server.baseUrl, fetchFn: recordingFetch, logger: silent, timelineSupport: true };
    return createClient({ ...fixed, ...options });
}

export class Person {
    constructor(server, credentials, options = {}) {
        this.server = server;
        this.credentials = credentials;
        this.userId = credentials.user_id;
        this.client = clientOf(server, {
            userId: credentials.user_id,
            deviceId: credentials.device_id,
            accessToken: credentials.access_token,
            ...options,
        });
    }

    /** A new user, by the stages that the server asks for. */
    static async register(server, username, options) {
        const request = { username, password: PASSWORD, initial_device_display_name: `${username}'s browser` };
        const client = clientOf(server);
        const { session, flows } = await refused(client.registerRequest(request), 401).then((error) => error.data);
        if (!flows.some(({ stages }) => stages.join() === "m.login.dummy")) throw new Error("no flow without proof");
        const credentials = await client.registerRequest({ ...request, auth: { type: "m.login.dummy", session } });
        return new Person(server, credentials, options);
    }

    /** Another session of the same user. */
    logInAgain(device) {
        return Person.logIn(this.server, this.userId, device);
    }

    static async logIn(server, userId, device, options) {
        const credentials = await clientOf(server).loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: userId },
            password: PASSWORD,
            initial_device_display_name: device,
            refresh_token: true,
        });
        return new Person(server, credentials, options);
    }

    /** Syncs, until the first answer is there. `kind` is "classic" or "sliding". */
    async start(kind = "classic") {
        const options = { threadSupport: true, lazyLoadMembers: true, pollTimeout: LONG_POLL_MS };
        if (kind === "sliding") options.slidingSync = slidingSync(this.client, this.server);
        await this.client.startClient(options);
        await this.until("its first sync", () =>
            [SyncState.Prepared, SyncState.Syncing].includes(this.client.getSyncState()),
        );
        return this;
    }

    stop() {
        this.client.stopClient();
    }

    /** Waits until `condition` gives something, which it is asked after whatever the client hears of. */
    async until(what, condition) {
        const { promise, resolve, reject } = Promise.withResolvers();
        const events = [ClientEvent.Sync, ClientEvent.AccountData, RoomEvent.Timeline, RoomEvent.UnreadNotifications];
        const check = () => {
            try {
                const found = condition();
                if (found) resolve(found);
            } catch (error) {
                reject(error);
            }
        };
        const soon = () => setImmediate(check);
        // Not everything that the client works out after a sync has an event, threads for one.
        const ticks = setInterval(check, TICK_MS);
        const timer = setTimeout(() => reject(new Error(`${this.userId} never saw ${what}`)), DEADLINE_MS);
        events.forEach((event) => this.client.on(event, soon));
        soon();
        try {
            return await promise;
        } finally {
            clearTimeout(timer);
            clearInterval(ticks);
            events.forEach((event) => this.client.off(event, soon));
        }
    }

    room(roomId) {
        return this.client.getRoom(roomId);
    }

    state(roomId, type, key = "") {
        return this.room(roomId)?.currentState.getStateEvents(type, key)?.getContent();
    }

    membership(roomId, user = this) {
        const room = this.room(roomId);
        return user === this ? room?.getMyMembership() : room?.getMember(user.userId)?.membership;
    }

    find(roomId, eventId) {
        return this.room(roomId)?.findEventById(eventId);
    }

    /** Waits for an event and returns it. */
    sees(roomId, eventId, what, condition = () => true) {
        return this.until(what, () => {
            const event = this.find(roomId, eventId);
            return event && condition(event) && event;
        });
    }

    becomes(roomId, membership, user = this) {
        return this.until(`${user.userId} as ${membership}`, () => this.membership(roomId, user) === membership);
    }

    async say(roomId, body, more = {}) {
        const content = { msgtype: "m.text", body, ...more };
        return (await this.client.sendEvent(roomId, "m.room.message", content)).event_id;
    }

    async invites(person, roomId, kind = "invite") {
        await this.client.invite(roomId, person.userId);
        await person.becomes(roomId, kind);
    }

    /** Invites, sees the answer. */
    async bringsIn(person, roomId) {
        await this.invites(person, roomId);
        await person.client.joinRoom(roomId);
        await Promise.all([person.becomes(roomId, "join"), this.becomes(roomId, "join", person)]);
    }
}

function slidingSync(client, server) {
    const everything = [["*", "*"]];
    const rooms = { timeline_limit: TIMELINE_LIMIT, required_state: everything };
    const lists = new Map([["all", { ranges: [[0, 99]], ...rooms }]]);
    return new SlidingSync(server.baseUrl, lists, rooms, client, LONG_POLL_MS);
}

/** The error that a call is refused with. */
export async function refused(call, status, errcode) {
    const error = await call.then(
        (answer) => {
            throw new Error(`expected ${status} ${errcode ?? ""}, got ${JSON.stringify(answer)}`);
        },
        (refusal) => refusal,
    );
    if (error.httpStatus !== status || (errcode && error.errcode !== errcode)) {
        throw new Error(`expected ${status} ${errcode ?? ""}, got: ${error}`, { cause: error });
    }
    return error;
}
