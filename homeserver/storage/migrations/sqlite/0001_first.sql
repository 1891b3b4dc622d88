-- One dictionary for what repeats: room ids, user ids, server names, event types, state keys. See names.rs for NUL.
CREATE TABLE names (
    name_nid INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- One row. Whoever commits updates it first, so that positions become visible in order.
CREATE TABLE log_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL,
    event_nid BIGINT NOT NULL,
    name_nid BIGINT NOT NULL
);
INSERT INTO log_head (one, position, event_nid, name_nid) VALUES (1, 0, 0, 0);

CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    kind SMALLINT NOT NULL,
    room_nid BIGINT,
    user_nid BIGINT,
    event_id TEXT,
    outbound BOOLEAN NOT NULL,
    membership TEXT
);
CREATE INDEX log_room ON log (room_nid, position);
CREATE INDEX log_outbound ON log (position) WHERE outbound;
CREATE INDEX log_room_outbound ON log (room_nid, position) WHERE outbound;

-- forward_extremities is JSON: [[event id, depth], ...].
CREATE TABLE rooms (
    room_nid INTEGER PRIMARY KEY,
    version TEXT NOT NULL,
    revision BIGINT NOT NULL,
    position BIGINT NOT NULL,
    forward_extremities TEXT NOT NULL,
    published BOOLEAN NOT NULL DEFAULT FALSE,
    partial BOOLEAN NOT NULL DEFAULT FALSE
);

-- standing: 0 accepted, 1 soft-failed, 2 rejected, 3 outlier. json comes last: long rows spill there.
CREATE TABLE events (
    event_nid INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    room_nid BIGINT NOT NULL,
    type_nid BIGINT NOT NULL,
    state_key_nid BIGINT,
    sender_nid BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    origin_server_ts BIGINT NOT NULL,
    standing SMALLINT NOT NULL,
    reason TEXT,
    timeline_order BIGINT,
    state_base BIGINT,
    redacted_by TEXT,
    json TEXT NOT NULL
);
CREATE UNIQUE INDEX events_timeline ON events (room_nid, timeline_order) WHERE timeline_order IS NOT NULL;

-- How the state before an event differs from the state at its state_base.
CREATE TABLE event_state_delta (
    event_nid BIGINT NOT NULL,
    type_nid BIGINT NOT NULL,
    state_key_nid BIGINT NOT NULL,
    event_id TEXT,
    membership TEXT,
    PRIMARY KEY (event_nid, type_nid, state_key_nid)
) WITHOUT ROWID;

-- The auth events of state events.
CREATE TABLE event_auth (
    event_nid BIGINT NOT NULL,
    auth_event_id TEXT NOT NULL,
    PRIMARY KEY (event_nid, auth_event_id)
) WITHOUT ROWID;

-- Redactions that came before the event that they redact.
CREATE TABLE awaited_redactions (
    event_id TEXT NOT NULL,
    redacted_by TEXT NOT NULL,
    PRIMARY KEY (event_id, redacted_by)
) WITHOUT ROWID;

CREATE TABLE backward_extremities (
    room_nid BIGINT NOT NULL,
    missing_event_id TEXT NOT NULL,
    event_nid BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    PRIMARY KEY (room_nid, missing_event_id, event_nid)
) WITHOUT ROWID;
CREATE INDEX backward_extremities_missing ON backward_extremities (missing_event_id);

-- The resolved state by position: valid from since (inclusive) until until (exclusive; NULL: still).
CREATE TABLE room_state (
    room_nid BIGINT NOT NULL,
    type_nid BIGINT NOT NULL,
    state_key_nid BIGINT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    event_id TEXT,
    membership TEXT,
    PRIMARY KEY (room_nid, type_nid, state_key_nid, since)
) WITHOUT ROWID;
CREATE UNIQUE INDEX room_state_current ON room_state (room_nid, type_nid, state_key_nid) WHERE until IS NULL;
CREATE INDEX room_state_since ON room_state (room_nid, since);

CREATE TABLE room_servers (
    room_nid BIGINT NOT NULL,
    server_nid BIGINT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT
);
CREATE INDEX room_servers_history ON room_servers (room_nid, server_nid, since);
CREATE INDEX room_servers_server ON room_servers (server_nid);
CREATE UNIQUE INDEX room_servers_current ON room_servers (room_nid, server_nid) WHERE until IS NULL;

CREATE TABLE memberships (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    membership TEXT NOT NULL,
    event_id TEXT NOT NULL,
    sender_nid BIGINT NOT NULL,
    position BIGINT NOT NULL,
    stripped_state TEXT,
    forgotten BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (user_nid, room_nid)
) WITHOUT ROWID;

-- thread_id is '' for an unthreaded receipt.
CREATE TABLE receipts (
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    receipt_type TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (room_nid, user_nid, receipt_type, thread_id)
) WITHOUT ROWID;
CREATE INDEX receipts_position ON receipts (room_nid, position);

-- room_nid is 0 for global account data.
CREATE TABLE account_data (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, type)
) WITHOUT ROWID;
CREATE INDEX account_data_position ON account_data (user_nid, position);

CREATE TABLE accounts (
    user_id TEXT PRIMARY KEY,
    password_hash TEXT,
    created_ts BIGINT NOT NULL,
    guest BOOLEAN NOT NULL,
    admin BOOLEAN NOT NULL,
    deactivated BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE profiles (
    user_id TEXT PRIMARY KEY,
    display_name TEXT,
    avatar_url TEXT
);

CREATE TABLE devices (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT,
    last_seen_ts BIGINT,
    last_seen_ip TEXT,
    PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

-- unconfirmed: came from a refresh and was not used yet; its first use revokes the pair before it.
CREATE TABLE access_tokens (
    token_hash BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    expires_ts BIGINT,
    unconfirmed BOOLEAN NOT NULL
) WITHOUT ROWID;
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);

CREATE TABLE refresh_tokens (
    token_hash BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    access_token_hash BLOB NOT NULL,
    used BOOLEAN NOT NULL
) WITHOUT ROWID;
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);

CREATE TABLE filters (
    user_id TEXT NOT NULL,
    filter_id BIGINT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, filter_id)
) WITHOUT ROWID;

CREATE TABLE aliases (
    alias TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    creator TEXT NOT NULL
);
CREATE INDEX aliases_room ON aliases (room_id);

CREATE TABLE client_transactions (
    transaction_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (transaction_id, user_id, device_id, scope)
) WITHOUT ROWID;

CREATE TABLE received_transactions (
    origin TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    response TEXT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (origin, transaction_id)
) WITHOUT ROWID;
CREATE INDEX received_transactions_ts ON received_transactions (ts);

CREATE TABLE server_keys (
    server TEXT NOT NULL,
    key_id TEXT NOT NULL,
    public_key BLOB NOT NULL,
    valid_until_ts BIGINT NOT NULL,
    expired_ts BIGINT,
    PRIMARY KEY (server, key_id)
) WITHOUT ROWID;

CREATE TABLE destinations (
    server TEXT PRIMARY KEY,
    cursor BIGINT NOT NULL,
    in_flight_transaction TEXT,
    in_flight_until BIGINT,
    failing_since_ts BIGINT,
    retry_at_ts BIGINT,
    failures BIGINT NOT NULL
);

CREATE TABLE registration_tokens (
    token TEXT PRIMARY KEY,
    uses_allowed BIGINT,
    uses BIGINT NOT NULL,
    expires_ts BIGINT
);
