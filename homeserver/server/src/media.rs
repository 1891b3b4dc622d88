//! Where files lie, as the operator has set it.

use std::{path::PathBuf, sync::Arc};

use engine::MediaSettings;
use media::{BlobId, BlobStore, Files, S3, S3Options, Spool};
use outbound::Egress;
use storage::Storage;

use crate::{configuration::Configuration, wiring::StartError};

/// How many files are looked for in one go.
const BATCH: usize = 500;

/// Where blobs lie, if they lie in files.
pub(crate) fn blobs_folder(configuration: &Configuration) -> Option<PathBuf> {
    configuration.media_s3_bucket.is_none().then(|| folder(configuration).join("blobs"))
}

fn folder(configuration: &Configuration) -> PathBuf {
    configuration.media_folder.clone().unwrap_or_else(|| configuration.data_dir.join("media"))
}

/// The settings of the content repository.
pub(crate) fn settings(configuration: &Configuration, egress: &Egress) -> Result<MediaSettings, StartError> {
    let folder = folder(configuration);
    let milliseconds = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let rules = |list: &[crate::configuration::PageRule]| list.iter().map(|rule| rule.0.clone()).collect();
    let store: Arc<dyn BlobStore> = match s3(configuration, egress)? {
        Some(bucket) => Arc::new(bucket),
        None => Arc::new(Files::new(folder.join("blobs"))),
    };
    Ok(MediaSettings {
        store,
        spool: Spool::new(folder.join("incoming")),
        upload_max_bytes: configuration.media_upload_max.0,
        remote_max_bytes: configuration.media_remote_max.0,
        user_quota_bytes: configuration.media_user_quota.map(|bytes| bytes.0),
        cache_kept_ms: configuration.media_cache_kept.map(|span| milliseconds(span.0)),
        cache_max_bytes: configuration.media_cache_max.map(|bytes| bytes.0),
        uploads_kept_ms: configuration.media_uploads_kept.map(|span| milliseconds(span.0)),
        unauthenticated_access: configuration.media_unauthenticated_access,
        previews: media::preview::Rules {
            allow: rules(&configuration.media_preview_allow.0),
            deny: rules(&configuration.media_preview_deny.0),
        },
    })
}

fn s3(configuration: &Configuration, egress: &Egress) -> Result<Option<S3>, StartError> {
    let Some(bucket) = configuration.media_s3_bucket.clone() else { return Ok(None) };
    let secret = configuration.media_s3_secret_key.as_ref().map(|secret| secret.reveal().to_owned());
    let options = S3Options {
        bucket,
        region: configuration.media_s3_region.clone(),
        endpoint: configuration.media_s3_endpoint.as_ref().map(|address| address.0.clone()),
        prefix: configuration.media_s3_prefix.clone(),
        credentials: configuration.media_s3_access_key.clone().zip(secret),
    };
    Ok(Some(S3::new(options, egress.service_client()?)?))
}

/// Files that should be there and are not, or are not as large as they should be, for `nudge fsck`.
pub(crate) async fn missing_files(
    storage: &Storage,
    store: &dyn BlobStore,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let blobs = storage.blobs(&after, BATCH).await?;
        let Some(last) = blobs.last() else { return Ok(found) };
        after.clone_from(&last.sha256);
        for blob in &blobs {
            let Some(blob_id) = BlobId::parse(&blob.sha256) else {
                found.push(format!("a content has a hash for a name: {}", blob.sha256));
                continue;
            };
            match store.size(&blob_id).await? {
                Some(size) if size == blob.size => {}
                Some(size) => found.push(format!("a file is as large as its record: {blob_id} has {size} bytes")),
                None => found.push(format!("a record has its file: {blob_id} is missing")),
            }
        }
    }
}
