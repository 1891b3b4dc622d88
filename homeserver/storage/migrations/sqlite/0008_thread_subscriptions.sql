-- Which threads users follow, and which they do not any more. automatic says that a client did it of itself. position is
-- that of the last change.
CREATE TABLE thread_subscriptions (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    thread_root TEXT NOT NULL,
    subscribed BOOLEAN NOT NULL,
    automatic BOOLEAN NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, thread_root)
);
CREATE INDEX thread_subscriptions_position ON thread_subscriptions (user_nid, position);
