-- Where users want to be told what notifies them. device_id is the device that asked for it; gateway is where it leads,
-- so that what is known of a gateway holds for all who use it. data is what the client wants the gateway to know,
-- secret what is needed to end it without being logged in.
--
-- cursor is the position of the log up to which everything was delivered, badge the count that was told last. Between
-- attempts that failed, or letters, retry_at_ts says when to go on.
CREATE TABLE pushers (
    user_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    device_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    gateway TEXT NOT NULL,
    app_display_name TEXT NOT NULL,
    device_display_name TEXT NOT NULL,
    profile_tag TEXT,
    lang TEXT NOT NULL,
    data TEXT NOT NULL,
    secret TEXT NOT NULL,
    set_ts BIGINT NOT NULL,
    cursor BIGINT NOT NULL,
    badge BIGINT,
    failures BIGINT NOT NULL DEFAULT 0,
    retry_at_ts BIGINT,
    throttle_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, app_id, pushkey)
) WITHOUT ROWID;
CREATE INDEX pushers_by_app ON pushers (pushkey, app_id);
CREATE INDEX pushers_secret ON pushers (secret);
CREATE INDEX pushers_retry ON pushers (retry_at_ts) WHERE retry_at_ts IS NOT NULL;

-- Up to where the log was read for them: what comes before is delivered, or waits for a retry_at_ts. One row.
CREATE TABLE pushers_read (
    position BIGINT NOT NULL
);
INSERT INTO pushers_read (position) SELECT COALESCE(MAX(position), 0) FROM log;
