//! Media and their contents. Whether the contents lie where they should is not for the database to say.

/// Invariants that one query can check: it answers with a line for each violation.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "a medium has a content that is known",
        "SELECT m.origin || '/' || m.media_id FROM media m WHERE m.sha256 IS NOT NULL AND NOT EXISTS
            (SELECT 1 FROM media_blobs b WHERE b.sha256 = m.sha256)",
    ),
    (
        "a medium is as large as its content",
        "SELECT m.origin || '/' || m.media_id FROM media m JOIN media_blobs b ON b.sha256 = m.sha256
            WHERE b.size <> m.size",
    ),
    (
        "what is not there yet is reserved, for somebody and for a time",
        "SELECT m.origin || '/' || m.media_id FROM media m
            WHERE m.sha256 IS NULL AND (m.uploader IS NULL OR m.expires_ts IS NULL)",
    ),
    (
        "a thumbnail shows a content that is known, and has one",
        "SELECT t.source || ' ' || CAST(t.width AS TEXT) || 'x' || CAST(t.height AS TEXT) FROM media_thumbnails t
            WHERE NOT EXISTS (SELECT 1 FROM media_blobs b WHERE b.sha256 = t.source)
            OR NOT EXISTS (SELECT 1 FROM media_blobs b WHERE b.sha256 = t.sha256 AND b.size = t.size)",
    ),
];
