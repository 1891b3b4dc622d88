-- Whether the push rule by which a room is muted until a time is the user's own: then it is not taken back.
ALTER TABLE mutes ADD COLUMN is_own BOOLEAN NOT NULL DEFAULT FALSE;

-- What users were notified of apart from everyone else, by user: of a room where much came since, what they have not read
-- is counted by these.
CREATE INDEX notified_user ON notified (user_nid, position) WHERE actions >= 0;
