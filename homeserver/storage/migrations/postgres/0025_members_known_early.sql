-- Of whom of a room that was entered without its members the readers of the log were told that they are joined, and since
-- when, beside those of whom they are told when all members are known.
CREATE TABLE members_known_early (
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (room_nid, user_nid)
);
