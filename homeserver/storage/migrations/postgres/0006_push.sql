-- What local users are notified of. The position is that of the event in the timeline, or, for an invitation to a room
-- that this server is not in, that of the change of the membership. actions is a JSON array of arrays of actions.
CREATE TABLE notified_events (
    position BIGINT PRIMARY KEY,
    room_nid BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    actions TEXT NOT NULL
);
CREATE INDEX notified_events_room ON notified_events (room_nid, position);

-- Whom of it. The rows of one event stand side by side, so that one event that notifies a thousand writes few pages.
CREATE TABLE notified (
    position BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    highlight BOOLEAN NOT NULL,
    actions SMALLINT NOT NULL,
    PRIMARY KEY (position, user_nid)
);
CREATE INDEX notified_highlight ON notified (user_nid, position) WHERE highlight;

-- Up to which position local users have read: thread_id is '' for all of the room, 'main', or the root of a thread.
-- changed is the position of the log at which it moved there.
CREATE TABLE read_up_to (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    thread_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, thread_id)
);
