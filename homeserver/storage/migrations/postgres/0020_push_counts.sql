-- Which of what notifies is a call: of these it is counted how many were missed.
ALTER TABLE notified_events ADD COLUMN is_call BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE notified_events SET is_call = TRUE WHERE event_id IN (SELECT v.event_id FROM events v
    WHERE v.type_nid = (SELECT n.name_nid FROM names n WHERE n.name = 'm.call.invite'));
CREATE INDEX notified_events_calls ON notified_events (room_nid, position) WHERE is_call;

-- In which rooms something that notified was taken back, and where the log was then at the earliest: what was counted of
-- such a room before does not hold any more.
CREATE TABLE withdrawn_notifications (
    room_nid BIGINT NOT NULL PRIMARY KEY,
    changed BIGINT NOT NULL
);

-- Changes each time a pusher is set: what an attempt from before comes to is of no interest any more.
ALTER TABLE pushers ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- Which rooms users have muted until when, as far as the push rule by which they are muted is to be taken back then.
CREATE TABLE mutes (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    until_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, room_id)
);
CREATE INDEX mutes_until ON mutes (until_ts);
