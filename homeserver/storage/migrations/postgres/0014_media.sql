-- Contents, by their SHA-256 in hexadecimal. The row is written before the content is put where contents lie, and
-- deleted before the content is, so that nothing lies there that no row speaks of.
CREATE TABLE media_blobs (
    sha256 TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    touched_ts BIGINT NOT NULL
);

-- Media: ours, those of other servers that are kept, and reservations, which have no content yet.
CREATE TABLE media (
    origin TEXT NOT NULL,
    media_id TEXT NOT NULL,
    sha256 TEXT,
    size BIGINT NOT NULL,
    content_type TEXT,
    filename TEXT,
    uploader TEXT,
    local BOOLEAN NOT NULL,
    preview BOOLEAN NOT NULL,
    unauthenticated BOOLEAN NOT NULL,
    protected BOOLEAN NOT NULL,
    quarantined_by TEXT,
    created_ts BIGINT NOT NULL,
    accessed_ts BIGINT NOT NULL,
    expires_ts BIGINT,
    PRIMARY KEY (origin, media_id)
);
CREATE INDEX media_sha256 ON media (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX media_uploader ON media (uploader, created_ts) WHERE uploader IS NOT NULL;
CREATE INDEX media_accessed ON media (local, accessed_ts);
CREATE INDEX media_expires ON media (expires_ts) WHERE expires_ts IS NOT NULL;

-- Smaller images of contents.
CREATE TABLE media_thumbnails (
    source TEXT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    method TEXT NOT NULL,
    animated BOOLEAN NOT NULL,
    sha256 TEXT NOT NULL,
    size BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    PRIMARY KEY (source, width, height, method, animated)
);
CREATE INDEX media_thumbnails_sha256 ON media_thumbnails (sha256);

-- Contents that are not served, under whatever name they come again.
CREATE TABLE media_blocked (
    sha256 TEXT PRIMARY KEY,
    blocked_by TEXT NOT NULL,
    blocked_ts BIGINT NOT NULL
);
