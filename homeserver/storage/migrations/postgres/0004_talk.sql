-- Which events of timelines relate to which. The event's type and sender are here too, so that whole threads are
-- counted without looking at their events.
CREATE TABLE relations (
    room_nid BIGINT NOT NULL,
    target_id TEXT NOT NULL,
    timeline_order BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    type_nid BIGINT NOT NULL,
    sender_nid BIGINT NOT NULL,
    annotation_key TEXT,
    PRIMARY KEY (room_nid, target_id, timeline_order)
);
CREATE INDEX relations_order ON relations (room_nid, timeline_order);

-- What can be searched for. field: 0 body, 1 name, 2 topic. block is NULL until enough texts of a room are there to
-- be put into search_grams together: see search.rs.
CREATE TABLE search_texts (
    event_nid BIGINT PRIMARY KEY,
    room_nid BIGINT NOT NULL,
    block BIGINT,
    field SMALLINT NOT NULL,
    ts BIGINT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX search_texts_block ON search_texts (room_nid, block);
CREATE INDEX search_texts_open ON search_texts (room_nid) WHERE block IS NULL;

-- In which blocks of texts three characters stand in a row.
CREATE TABLE search_grams (
    gram BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    block BIGINT NOT NULL,
    PRIMARY KEY (gram, room_nid, block)
);

-- What users complained of. event_id and room_id, room_id alone, or reported_user_id are set.
CREATE TABLE reports (
    report_id BIGINT PRIMARY KEY,
    received_ts BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    room_id TEXT,
    event_id TEXT,
    reported_user_id TEXT,
    reason TEXT,
    score BIGINT
);
CREATE INDEX reports_user ON reports (user_id, received_ts);

-- Events to be sent later, unless somebody prevents it.
CREATE TABLE delayed_events (
    delay_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    state_key TEXT,
    content TEXT NOT NULL,
    delay_ms BIGINT NOT NULL,
    running_since_ts BIGINT NOT NULL,
    send_ts BIGINT NOT NULL,
    transaction_id TEXT
);
CREATE INDEX delayed_events_send ON delayed_events (send_ts);
CREATE INDEX delayed_events_user ON delayed_events (user_id);
CREATE INDEX delayed_events_room ON delayed_events (room_id, event_type);

-- The one room in which the server speaks to a user.
CREATE TABLE server_notice_rooms (
    user_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL
);
