-- Events from other servers of which something that they build upon was not to be had: see set_aside.rs.
CREATE TABLE set_aside_events (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    json TEXT NOT NULL,
    since_ts BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_ts BIGINT NOT NULL
);
CREATE INDEX set_aside_events_room ON set_aside_events (room_id);
CREATE INDEX set_aside_events_next ON set_aside_events (next_ts);
