-- Events that are to be judged again when the policy server of their room can be asked.
CREATE INDEX events_soft_failed ON events (room_nid) WHERE standing = 1;
