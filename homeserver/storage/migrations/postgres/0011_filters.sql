-- When a filter was last asked for, to the day: who makes too many loses the one that was not used for longest.
ALTER TABLE filters ADD COLUMN used_ts BIGINT NOT NULL DEFAULT 0;
