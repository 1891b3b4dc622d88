//! Blobs in object storage that speaks the protocol of S3: the one place that talks to it, to the one that the operator
//! has set.

use std::{fs::File, io, io::Read, ops::Range, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture};
use object_store::{
    ClientOptions, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector},
    path::Path,
};
use tokio::sync::Semaphore;

use super::{BlobStore, StoreError};
use crate::{BlobId, ByteStream, Spooled, spool::blocking};

/// What is sent in one request, and so held in memory for each blob that is being put. The protocol wants at least 5 MiB.
const PART_BYTES: usize = 6 * 1024 * 1024;
/// How many blobs are put at the same time; others wait on the disk.
const PUTS_MAX: usize = 4;
/// How long the object storage may take for one request, with all its repetitions.
const REQUEST_DEADLINE: Duration = Duration::from_mins(2);

/// Where the object storage is.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The address of the service; `None` is that of Amazon.
    pub endpoint: Option<String>,
    /// What the names of all objects begin with; may be empty.
    pub prefix: String,
    /// The access key and its secret; without them the requests are not signed.
    pub credentials: Option<(String, String)>,
}

/// Blobs in a bucket.
#[derive(Debug)]
pub struct S3 {
    bucket: AmazonS3,
    prefix: String,
    puts: Semaphore,
}

/// Hands out one client, which was made elsewhere.
#[derive(Debug)]
struct Given(reqwest::Client);

impl HttpConnector for Given {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl S3 {
    /// Blobs in a bucket, reached by `client`. Connects to nothing yet.
    pub fn new(options: S3Options, client: reqwest::Client) -> Result<Self, StoreError> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(options.bucket)
            .with_region(options.region)
            .with_http_connector(Given(client));
        if let Some(endpoint) = options.endpoint {
            // What is not Amazon's rarely has a name for each bucket.
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        builder = match options.credentials {
            Some((key, secret)) => builder.with_access_key_id(key).with_secret_access_key(secret),
            None => builder.with_skip_signature(true),
        };
        Ok(Self { bucket: builder.build()?, prefix: options.prefix, puts: Semaphore::new(PUTS_MAX) })
    }

    fn path(&self, blob_id: &BlobId) -> Path {
        let name = blob_id.as_str();
        Path::from(format!("{}/{}/{}/{name}", self.prefix, &name[..2], &name[2..4]))
    }

    async fn send(&self, blob: &Spooled) -> Result<(), StoreError> {
        let path = self.path(&blob.blob_id);
        let file_error = |error| StoreError::Files { path: blob.path().to_owned(), error };
        let from = blob.path().to_owned();
        let mut file = blocking(move || File::open(from)).await.map_err(file_error)?;
        if blob.size <= PART_BYTES as u64 {
            let (_, part) = read_part(file).await.map_err(file_error)?;
            in_time(self.bucket.put(&path, PutPayload::from_bytes(part))).await?;
            return Ok(());
        }
        let mut upload = in_time(self.bucket.put_multipart(&path)).await?;
        loop {
            let part;
            (file, part) = match read_part(file).await {
                Ok(read) => read,
                Err(error) => return Err(abort(upload, file_error(error)).await),
            };
            if part.is_empty() {
                break;
            }
            if let Err(error) = in_time(upload.put_part(PutPayload::from_bytes(part))).await {
                return Err(abort(upload, error.into()).await);
            }
        }
        match in_time(upload.complete()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(abort(upload, error.into()).await),
        }
    }
}

/// Parts that nobody completes would be kept, and paid for.
async fn abort(mut upload: Box<dyn MultipartUpload>, error: StoreError) -> StoreError {
    if let Err(second) = in_time(upload.abort()).await {
        tracing::warn!(error = %second, "parts of an upload are left in the object storage");
    }
    error
}

/// What the object storage answers, unless it takes too long.
async fn in_time<T>(asking: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
    let late = |error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
    tokio::time::timeout(REQUEST_DEADLINE, asking).await.unwrap_or_else(|error| Err(late(error)))
}

/// As much as fits into one request; empty at the end.
async fn read_part(file: File) -> io::Result<(File, Bytes)> {
    blocking(move || {
        let mut part = Vec::new();
        let mut limited = file.take(PART_BYTES as u64);
        limited.read_to_end(&mut part)?;
        Ok((limited.into_inner(), part.into()))
    })
    .await
}

impl BlobStore for S3 {
    fn put(&self, blob: Spooled) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let _place = self.puts.acquire().await.expect("the semaphore is never closed");
            if self.size(&blob.blob_id).await? == Some(blob.size) {
                return Ok(());
            }
            self.send(&blob).await
        })
    }

    fn read<'a>(&'a self, blob_id: &'a BlobId, range: Range<u64>) -> BoxFuture<'a, Result<ByteStream, StoreError>> {
        Box::pin(async move {
            if range.is_empty() {
                return Ok(futures_util::stream::empty().boxed());
            }
            let (path, options) = (self.path(blob_id), GetOptions::new().with_range(Some(range)));
            let found = match in_time(self.bucket.get_opts(&path, options)).await {
                Err(object_store::Error::NotFound { .. }) => return Err(StoreError::Lost(blob_id.clone())),
                found => found?,
            };
            Ok(found.into_stream().map_err(io::Error::from).boxed())
        })
    }

    fn size<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move {
            match in_time(self.bucket.head(&self.path(blob_id))).await {
                Ok(found) => Ok(Some(found.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn delete<'a>(&'a self, blob_id: &'a BlobId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match in_time(self.bucket.delete(&self.path(blob_id))).await {
                Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn file(&self, _: &BlobId) -> Option<PathBuf> {
        None
    }
}
