// What Element Web, Element X, Cinny, FluffyChat and Nheko call before anybody has clicked, as a browser would: every
// answer, refusals too, must be one that they can read, and that a page of another origin may read.

import assert from "node:assert/strict";

import { Person } from "./person.mjs";

const ORIGIN = "https://app.example.org";
const UNSTABLE = "/_matrix/client/unstable";
const V1 = "/_matrix/client/v1";
const V3 = "/_matrix/client/v3";
const NOT_SERVED = { status: 404, errcode: "M_UNRECOGNIZED" };
const NOT_THERE = { status: 404, errcode: "M_NOT_FOUND" };

const is = (expected) => (answer) => assert.deepEqual(answer, expected);
const has = (...names) => (answer) => {
    for (const name of names) assert.ok(name in answer, `no ${name} in ${JSON.stringify(answer)}`);
};

/** Before anybody logs in. */
function strangers(username) {
    const wrong = { type: "m.login.password", identifier: { type: "m.id.user", user: username }, password: "wrong" };
    return [
        ["GET", "/.well-known/matrix/client", NOT_THERE],
        ["GET", "/.well-known/matrix/support", NOT_THERE],
        ["GET", "/_matrix/client/versions", { check: has("versions", "unstable_features") }],
        ["GET", "/_matrix/federation/v1/version", { simple: true, check: ({ server }) => has("name", "version")(server) }],
        ["GET", `${V1}/auth_metadata`, NOT_SERVED],
        ["GET", `${UNSTABLE}/org.matrix.msc2965/auth_metadata`, NOT_SERVED],
        ["GET", `${UNSTABLE}/org.matrix.msc2965/auth_issuer`, NOT_SERVED],
        ["POST", `${UNSTABLE}/org.matrix.msc4108/rendezvous`, NOT_SERVED, {}],
        ["GET", `${UNSTABLE}/io.element.msc4388/rendezvous`, NOT_SERVED],
        ["GET", `${V3}/login`, { check: ({ flows }) => assert.ok(flows.some(({ type }) => type === wrong.type)) }],
        ["POST", `${V3}/login`, { status: 403, errcode: "M_FORBIDDEN" }, wrong],
        ["POST", `${V3}/login`, { status: 400, errcode: "M_MISSING_PARAM" }, { identifier: 1 }],
        ["POST", `${V3}/register`, { status: 401, check: has("flows", "params", "session") }, {}],
        ["POST", `${V3}/register?kind=guest`, { status: 403 }, {}],
        ["GET", `${V3}/register/available?username=nobody-yet`, { check: is({ available: true }) }],
        ["GET", `${V3}/register/available?username=${username}`, { status: 400, errcode: "M_USER_IN_USE" }],
        ["GET", `${V3}/account/whoami`, { status: 401, errcode: "M_MISSING_TOKEN" }],
        ["GET", `${V3}/sync?timeout=0`, { status: 401, errcode: "M_MISSING_TOKEN" }],
        ["GET", `${V1}/register/m.login.registration_token/validity?token=x`, { status: 403 }],
        ["POST", `${V3}/refresh`, { status: 401, errcode: "M_UNKNOWN_TOKEN" }, { refresh_token: "spent" }],
    ];
}

/** At the start of a client whose user has done nothing yet. */
function newcomers(userId, deviceId) {
    const user = encodeURIComponent(userId);
    const accountData = `${V3}/user/${user}/account_data`;
    const emptyKeys = has("one_time_key_counts");
    return [
        ["GET", `${V3}/account/whoami`, { check: is({ user_id: userId, device_id: deviceId }) }],
        ["GET", "/_matrix/client/versions", { check: has("versions", "unstable_features") }],
        ["GET", `${V3}/capabilities`, { check: ({ capabilities }) => has("m.room_versions")(capabilities) }],
        ["GET", `${V3}/pushrules/`, { check: ({ global }) => has("override", "underride")(global) }],
        ["GET", `${V3}/pushrules/global/`, { check: has("override", "underride") }],
        ["GET", `${V3}/voip/turnServer`, { check: is({}) }],
        ["GET", `${V3}/thirdparty/protocols`, { check: is({}) }],
        ["GET", `${V3}/devices`, { check: ({ devices }) => assert.equal(devices[0].device_id, deviceId) }],
        ["GET", `${V3}/devices/${deviceId}`, { check: has("device_id") }],
        ["GET", `${V3}/profile/${user}`, { check: has() }],
        ["GET", `${V3}/profile/${user}/avatar_url`, { check: is({}) }],
        ["GET", `${V3}/profile/@nobody:nowhere.invalid/displayname`, { status: 502, errcode: "M_UNKNOWN" }],
        ["GET", `${V3}/presence/${user}/status`, { check: has("presence") }],
        ["PUT", `${V3}/presence/${user}/status`, { check: is({}) }, { presence: "online" }],
        ["POST", `${V3}/user/${user}/filter`, { check: has("filter_id") }, { room: { timeline: { limit: 20 } } }],
        ["GET", `${V3}/user/${user}/filter/no-such-filter`, { status: 404 }],
        ["GET", `${accountData}/m.direct`, NOT_THERE],
        ["GET", `${accountData}/m.secret_storage.default_key`, NOT_THERE],
        ["GET", `${accountData}/m.cross_signing.master`, NOT_THERE],
        ["GET", `${accountData}/im.vector.web.settings`, NOT_THERE],
        ["GET", `${accountData}/m.push_rules`, { check: has("global") }],
        ["GET", `${V3}/room_keys/version`, NOT_THERE],
        ["GET", `${V3}/room_keys/keys?version=1`, NOT_THERE],
        ["GET", `${UNSTABLE}/org.matrix.msc3814.v1/dehydrated_device`, NOT_THERE],
        ["POST", `${V3}/keys/upload`, { check: emptyKeys }, {}],
        ["POST", `${V3}/keys/query`, { check: has("device_keys") }, { device_keys: { [userId]: [] } }],
        ["POST", `${V3}/keys/claim`, { check: has("one_time_keys") }, { one_time_keys: {} }],
        ["POST", `${V3}/keys/signatures/upload`, { check: has() }, {}],
        ["PUT", `${V3}/sendToDevice/m.secret.request/1`, { check: is({}) }, { messages: {} }],
        ["GET", `${V3}/notifications?limit=30&only=highlight`, { check: has("notifications") }],
        ["GET", `${V3}/joined_rooms`, { check: is({ joined_rooms: [] }) }],
        ["GET", `${V3}/account/3pid`, { check: is({ threepids: [] }) }],
        ["GET", `${V3}/publicRooms?limit=20`, { check: has("chunk") }],
        ["POST", `${V3}/publicRooms`, { check: has("chunk") }, { limit: 20, filter: { room_types: [null] } }],
        ["POST", `${V3}/user_directory/search`, { check: has("results", "limited") }, { search_term: "x", limit: 10 }],
        ["POST", `${V3}/user/${user}/openid/request_token`, { check: has("access_token", "matrix_server_name") }, {}],
        ["GET", `${UNSTABLE}/org.matrix.msc4140/delayed_events`, { check: has() }],
        ["GET", `${V3}/sync?timeout=0&set_presence=offline&filter=%7B%7D`, { check: has("next_batch") }],
        ["GET", `${V3}/sync?timeout=0&org.matrix.msc4222.use_state_after=true`, { check: has("next_batch") }],
        ["POST", `${UNSTABLE}/org.matrix.simplified_msc3575/sync?timeout=0`, { check: has("pos") }, { lists: {} }],
        ["GET", `${V3}/directory/room/%23nowhere:${userId.split(":").slice(1).join(":")}`, NOT_THERE],
        ["GET", `/_synapse/admin/v1/users/${user}/admin`, { status: [403, 404] }],
        // The next have no module here: clients go on without them when, and only when, they are told so.
        ["GET", `${UNSTABLE}/org.matrix.msc4143/rtc/transports`, { ...NOT_SERVED, orElse: has("rtc_transports") }],
        ["GET", `${V1}/media/config`, { ...NOT_SERVED, orElse: has("m.upload.size") }],
        ["GET", "/_matrix/media/v3/config", { ...NOT_SERVED, orElse: has("m.upload.size") }],
        ["GET", `${V3}/pushers`, { ...NOT_SERVED, orElse: has("pushers") }],
    ];
}

/** What no client should call, and what broken ones do. */
const ODDITIES = [
    ["GET", "/_matrix/client/v3/no/such/path", NOT_SERVED],
    ["GET", "/_matrix/no-such-api", NOT_SERVED],
    ["DELETE", `${V3}/sync`, { status: 405, errcode: "M_UNRECOGNIZED" }],
    ["POST", `${V3}/createRoom`, { status: 400, errcode: "M_NOT_JSON" }, "{"],
    ["GET", `${V3}/rooms/!nowhere:example.org/state`, { status: 403, errcode: "M_FORBIDDEN" }],
];

/** What a browser asks before it sends what a page could not have sent without a script. */
async function preflight(server, method, path) {
    const headers = {
        Origin: ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    };
    const answer = await fetch(server.baseUrl + path, { method: "OPTIONS", headers });
    assert.ok(answer.ok, `OPTIONS ${path}: ${answer.status}`);
    await answer.arrayBuffer();
    assert.equal(answer.headers.get("access-control-allow-origin"), "*", `OPTIONS ${path}`);
    assert.match(answer.headers.get("access-control-allow-methods"), new RegExp(`\\b${method}\\b`), `OPTIONS ${path}`);
    const allowed = answer.headers.get("access-control-allow-headers").toLowerCase();
    for (const name of ["authorization", "content-type"]) assert.ok(allowed.includes(name), `OPTIONS ${path}: ${name}`);
}

async function call(server, token, [method, path, expected, body]) {
    if (!expected.simple) await preflight(server, method, path);
    const what = `${method} ${path}`;
    const headers = { Origin: ORIGIN };
    if (body) headers["Content-Type"] = "application/json";
    if (token) headers.Authorization = `Bearer ${token}`;
    const sent = typeof body === "object" ? JSON.stringify(body) : body;
    const response = await fetch(server.baseUrl + path, { method, headers, body: sent });
    assert.equal(response.headers.get("access-control-allow-origin"), "*", `${what}: no CORS`);
    assert.match(response.headers.get("content-type") ?? "", /^application\/json/, what);
    const answer = await response.json();
    if (response.ok && expected.orElse) return expected.orElse(answer);
    const told = `${what}: ${response.status} ${JSON.stringify(answer)}`;
    assert.ok([expected.status ?? 200].flat().includes(response.status), told);
    if (expected.errcode) assert.equal(answer.errcode, expected.errcode, told);
    if (!response.ok && !answer.flows) assert.ok(answer.errcode && answer.error, told);
    expected.check?.(answer);
}

export async function startUp(server) {
    const { credentials } = await Person.register(server, "newcomer");
    const token = credentials.access_token;
    const wrongs = [];
    const rows = [
        ...strangers("newcomer").map((row) => [undefined, row]),
        ...newcomers(credentials.user_id, credentials.device_id).map((row) => [token, row]),
        ...ODDITIES.map((row) => [token, row]),
        ["made-up", ["GET", `${V3}/account/whoami`, { status: 401, errcode: "M_UNKNOWN_TOKEN" }]],
    ];
    for (const [who, row] of rows) {
        await call(server, who, row).catch((error) => wrongs.push(`${row[0]} ${row[1]}: ${error.message}`));
    }
    assert.deepEqual(wrongs, []);
    return rows.length;
}
