-- Positions that were skipped when a backup was restored: those after since, up to until. What was given out of them
-- after the backup was made is lost.
CREATE TABLE log_gaps (
    since BIGINT PRIMARY KEY,
    until BIGINT NOT NULL
);
