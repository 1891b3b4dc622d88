-- From which position on the states before events of a room are known. 0 for all; another where a stay ended before we were
-- told all members, and we came back.
ALTER TABLE rooms ADD COLUMN states_since BIGINT NOT NULL DEFAULT 0;
