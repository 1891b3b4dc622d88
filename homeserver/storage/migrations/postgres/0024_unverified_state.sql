-- What a room that we entered without its members was said to have as its state besides, and what could not be verified
-- then. JSON: [event id, ...].
ALTER TABLE partial_states ADD COLUMN unverified TEXT NOT NULL DEFAULT '[]';
