//! The content repository below the engine: where the bytes of media lie, thumbnails of them, how they are served
//! safely, and what is read out of web pages.
//!
//! It knows neither users nor rooms, and no records: what belongs to whom stands in `storage`, what is allowed is the
//! engine's to say. Blobs are named by the SHA-256 of their content, so that nothing that somebody writes becomes part
//! of a path.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#content-repository>

mod check;
pub mod disposition;
pub mod preview;
mod spool;
mod store;
pub mod thumbnail;

use std::{fmt, io};

use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use self::{
    check::checked,
    spool::{ReceiveError, Spool, Spooled},
    store::{BlobStore, Files, S3, S3Options, StoreError},
};

/// Bytes that come piece by piece.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// The SHA-256 of a blob, in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(String);

impl BlobId {
    fn from_digest(digest: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(digest.len() * 2);
        for byte in digest {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        Self(text)
    }

    /// Reads one; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(hexadecimal)).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BlobId({self})")
    }
}

/// The longest media id, in bytes. Servers make them of 18 to 64.
const MEDIA_ID_MAX_BYTES: usize = 255;

/// Whether a media id consists of what the specification lets it consist of.
pub fn is_media_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= MEDIA_ID_MAX_BYTES && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{BlobId, is_media_id};

    #[test]
    fn s_144_media_ids_and_blob_names_hold_no_path() {
        let hostile = [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "%2e%2e",
            "a%2fb",
            "a b",
            "a\0",
            "a\r\nb",
            "a?b",
            "a#b",
            "a:b",
            "\u{e9}",
            "\u{202e}a",
            "~",
            "a;b",
            "a&b",
            "$(a)",
            "a'b",
            "a\"b",
            "<a>",
            "a|b",
            "*",
        ];
        for text in hostile {
            assert!(!is_media_id(text), "{text:?}");
            assert_eq!(BlobId::parse(text), None, "{text:?}");
        }
        assert!(!is_media_id(&"a".repeat(256)));
        assert!(is_media_id("AQwafuaFswefuhsfAFAgsw_-0"));
        assert_eq!(BlobId::parse(&"A".repeat(64)), None);
        assert!(BlobId::parse(&"a0".repeat(32)).is_some());
    }
}
