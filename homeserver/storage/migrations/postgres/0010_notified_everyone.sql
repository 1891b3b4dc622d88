-- What an event comes to for the local users who are joined to the room, did not send it, and have no row in notified:
-- an index of its actions, or nothing. A row in notified with the actions -1 says that this user is not notified.
ALTER TABLE notified_events ADD COLUMN sender_nid BIGINT;
ALTER TABLE notified_events ADD COLUMN everyone SMALLINT;
ALTER TABLE notified_events ADD COLUMN everyone_highlight BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX notified_events_highlight ON notified_events (position) WHERE everyone_highlight;

-- Who is in a room, to find out when all of them have read something.
CREATE INDEX memberships_room ON memberships (room_nid, membership);
