-- Events that are delivered to whoever is in the room until a time.
CREATE TABLE sticky_events (
    position INTEGER PRIMARY KEY,
    room_nid BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    until_ts BIGINT NOT NULL
);
CREATE INDEX sticky_events_room ON sticky_events (room_nid, position);
CREATE INDEX sticky_events_until ON sticky_events (until_ts);

-- For how long an event that waits will be sticky; 0 for not at all.
ALTER TABLE delayed_events ADD COLUMN sticky_duration_ms BIGINT NOT NULL DEFAULT 0;
