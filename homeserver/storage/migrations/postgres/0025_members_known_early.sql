-- Who was known to be joined to a room that was entered without its members before the others were, and since when: of
-- them nothing is new when the others become known.
CREATE TABLE members_known_early (
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (room_nid, user_nid)
);
