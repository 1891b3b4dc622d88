-- The signed identity keys of devices: our users', and those of other servers' users that we follow.
CREATE TABLE device_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id)
);

-- Keys that were handed out stay for a while, so that none is taken in, and handed out, again.
CREATE TABLE one_time_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    upload_order BIGINT NOT NULL,
    claimed BOOLEAN NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm, key_id)
);
CREATE INDEX one_time_keys_next ON one_time_keys (user_id, device_id, algorithm, upload_order) WHERE NOT claimed;

CREATE TABLE fallback_keys (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    used BOOLEAN NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm)
);

CREATE TABLE cross_signing_keys (
    user_id TEXT NOT NULL,
    usage TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_id, usage)
);

-- Signatures that our users put on devices and keys after these were uploaded.
CREATE TABLE key_signatures (
    target_user_id TEXT NOT NULL,
    target_id TEXT NOT NULL,
    signer TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (target_user_id, target_id, signer, key_id)
);

-- Which entry of the log changed whose devices. With a viewer, only what that local user sees of them changed.
CREATE TABLE device_list_log (
    position BIGINT PRIMARY KEY,
    user_nid BIGINT NOT NULL,
    device_id TEXT,
    viewer_nid BIGINT
);
CREATE INDEX device_list_log_user ON device_list_log (user_nid, position);

-- The device lists of other servers' users that we have: complete as of a position of the log, and whether something
-- was missed since.
CREATE TABLE remote_device_lists (
    user_id TEXT PRIMARY KEY,
    stream_id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    stale BOOLEAN NOT NULL,
    failures BIGINT NOT NULL,
    retry_at_ts BIGINT NOT NULL
);
CREATE INDEX remote_device_lists_stale ON remote_device_lists (retry_at_ts) WHERE stale;

CREATE TABLE to_device (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    sender TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, device_id, position)
);

CREATE TABLE to_device_ids (
    sender TEXT NOT NULL,
    message_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (sender, message_id)
);
CREATE INDEX to_device_ids_ts ON to_device_ids (ts);

-- EDUs that must not get lost; to whom they go stands in log_recipients, until they are delivered.
CREATE TABLE outbound_edus (
    position BIGINT PRIMARY KEY,
    type TEXT NOT NULL,
    content TEXT NOT NULL
);

CREATE TABLE key_backups (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, version)
);

CREATE TABLE backed_up_keys (
    user_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count BIGINT NOT NULL,
    is_verified BOOLEAN NOT NULL,
    session_data TEXT NOT NULL,
    PRIMARY KEY (user_id, version, room_id, session_id)
);

-- In which rooms a user is, whoever's user it is.
CREATE INDEX room_state_member ON room_state (state_key_nid, room_nid) WHERE until IS NULL AND membership = 'join';
