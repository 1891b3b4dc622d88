-- Rooms that we entered without being told of all their members, until we are: see partial_states.rs. servers is JSON:
-- [server, ...], those that were in the room when we entered it.
CREATE TABLE partial_states (
    room_nid BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    entered_by TEXT NOT NULL,
    servers TEXT NOT NULL,
    retry_at_ts BIGINT NOT NULL,
    failures BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX partial_states_retry ON partial_states (retry_at_ts);

-- At which position all members of a room became known that was entered without.
ALTER TABLE rooms ADD COLUMN complete_since BIGINT NOT NULL DEFAULT 0;
CREATE INDEX rooms_complete_since ON rooms (complete_since) WHERE complete_since > 0;

-- What came while a state was partial and was not accepted.
CREATE INDEX events_refused ON events (room_nid, state_base) WHERE timeline_order IS NULL AND standing IN (1, 2);
