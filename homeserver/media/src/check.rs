//! Reading what must not have changed: a disk may forget, and nobody is to be given something else under the same name.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};

use crate::{BlobId, ByteStream};

/// The bytes of a whole blob, the last of which only come when it is certain that they all are what they were: else the
/// stream ends with [`io::ErrorKind::InvalidData`], so that whoever reads never has all of something else.
pub fn checked(body: ByteStream, blob_id: BlobId) -> ByteStream {
    let reading = Reading { body, blob_id, hasher: Sha256::new(), held_back: None };
    let step = async |reading: Option<Reading>| match reading {
        Some(reading) => reading.next().await,
        None => Ok(None),
    };
    stream::try_unfold(Some(reading), step).boxed()
}

struct Reading {
    body: ByteStream,
    blob_id: BlobId,
    hasher: Sha256,
    held_back: Option<Bytes>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Option<Self>)>> {
        while let Some(piece) = self.body.try_next().await? {
            self.hasher.update(&piece);
            if let Some(before) = self.held_back.replace(piece) {
                return Ok(Some((before, Some(self))));
            }
        }
        if BlobId::from_digest(&self.hasher.finalize()) != self.blob_id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the content is not what its name says"));
        }
        Ok(self.held_back.map(|last| (last, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: &[&'static str], of: &str) -> (Vec<u8>, Option<io::ErrorKind>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut body = checked(stream::iter(pieces).boxed(), BlobId::from_digest(&Sha256::digest(of)));
        let mut read = Vec::new();
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => read.extend_from_slice(&piece),
                Err(error) => return (read, Some(error.kind())),
            }
        }
        (read, None)
    }

    #[tokio::test]
    async fn r_12_what_is_not_as_it_was_is_never_read_to_its_end() {
        assert_eq!(read(&["a", "bc", "d"], "abcd").await, (b"abcd".to_vec(), None));
        assert_eq!(read(&[], "").await, (Vec::new(), None));
        assert_eq!(read(&["abcd"], "abcd").await, (b"abcd".to_vec(), None));
        let wrong = Some(io::ErrorKind::InvalidData);
        assert_eq!(read(&["a", "bc", "D"], "abcd").await, (b"abc".to_vec(), wrong));
        assert_eq!(read(&["A", "bc", "d"], "abcd").await, (b"Abc".to_vec(), wrong));
        assert_eq!(read(&["a", "bc"], "abcd").await, (b"a".to_vec(), wrong), "it ends too early");
        assert_eq!(read(&[], "abcd").await, (Vec::new(), wrong));
    }
}
