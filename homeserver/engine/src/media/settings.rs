//! What the operator can choose about media.

use std::{path::Path, sync::Arc};

use media::{BlobStore, Files, Spool, preview::Rules};

/// The largest medium, if the operator does not say otherwise.
const UPLOAD_MAX_BYTES: u64 = 100 * 1024 * 1024;

/// Settings of the content repository.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// Where contents lie.
    pub store: Arc<dyn BlobStore>,
    /// Where they lie while they arrive.
    pub spool: Spool,
    /// The largest upload.
    pub upload_max_bytes: u64,
    /// The largest medium of another server.
    pub remote_max_bytes: u64,
    /// How much each user may upload; `None`: any amount.
    pub user_quota_bytes: Option<u64>,
    /// For how long what can be fetched again is kept after somebody asked for it; `None`: for ever.
    pub cache_kept_ms: Option<u64>,
    /// How much there may be of what can be fetched again; `None`: any amount.
    pub cache_max_bytes: Option<u64>,
    /// For how long what users uploaded is kept after somebody asked for it; `None`: for ever.
    pub uploads_kept_ms: Option<u64>,
    /// Whether what arrives from now on may be had without an access token.
    pub unauthenticated_access: bool,
    /// Which pages may be fetched for previews.
    pub previews: Rules,
}

impl MediaSettings {
    /// The defaults, with contents in a folder, which is made when the first arrives.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            store: Arc::new(Files::new(folder.join("blobs"))),
            spool: Spool::new(folder.join("incoming")),
            upload_max_bytes: UPLOAD_MAX_BYTES,
            remote_max_bytes: UPLOAD_MAX_BYTES,
            user_quota_bytes: None,
            cache_kept_ms: None,
            cache_max_bytes: None,
            uploads_kept_ms: None,
            unauthenticated_access: false,
            previews: Rules::default(),
        }
    }
}
