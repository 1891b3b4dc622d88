-- When a client's request was done, so that it can be forgotten when no client asks again.
ALTER TABLE client_transactions ADD COLUMN ts BIGINT NOT NULL DEFAULT 0;
UPDATE client_transactions SET ts = COALESCE(
    (SELECT e.origin_server_ts FROM events e WHERE e.event_id = client_transactions.event_id), 0);
CREATE INDEX client_transactions_ts ON client_transactions (ts);

-- By which pieces of their names users are found: see user_directory.rs.
CREATE TABLE user_directory (
    piece BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    PRIMARY KEY (piece, user_nid)
) WITHOUT ROWID;

-- Up to which joined member the names are in user_directory: one row.
CREATE TABLE user_directory_read (
    since BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL
);
INSERT INTO user_directory_read (since, room_nid, user_nid) VALUES (0, 0, 0);

-- Rooms whose members were there before us, and up to which of them the names are in user_directory.
CREATE TABLE user_directory_rooms (
    room_nid INTEGER PRIMARY KEY,
    user_nid BIGINT NOT NULL
);
INSERT INTO user_directory_rooms (room_nid, user_nid) SELECT DISTINCT room_nid, 0 FROM room_state WHERE since < 0;

-- Who joined after a position.
CREATE INDEX room_state_joined_since ON room_state (since, room_nid, state_key_nid)
    WHERE until IS NULL AND membership = 'join';

-- What users say about their presence. Who is there is known in memory only, but what they say outlives a restart.
CREATE TABLE presence_statuses (
    user_id TEXT PRIMARY KEY,
    status_msg TEXT NOT NULL
) WITHOUT ROWID;
