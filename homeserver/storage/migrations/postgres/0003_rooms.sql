-- Servers that are sent an event though they are not in its room: it ends an invitation or a knock of one of their users.
CREATE TABLE log_recipients (
    server_nid BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (server_nid, position)
);
CREATE INDEX log_recipients_position ON log_recipients (position);

-- The event that is closest to a time.
CREATE INDEX events_time ON events (room_nid, origin_server_ts) WHERE timeline_order IS NOT NULL;
