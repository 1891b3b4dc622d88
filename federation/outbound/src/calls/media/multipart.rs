//! Reading the two parts of an answer: what is said of the medium, of which nothing is used yet, and the medium itself,
//! which is passed on while it comes.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc2046#section-5.1>

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::ByteStream;

/// The longest boundary, by the standard.
const BOUNDARY_MAX_BYTES: usize = 70;
/// What may stand before the medium: an empty object, some headers, and a preamble that nobody sends.
const FRAME_MAX_BYTES: usize = 64 * 1024;
/// The most headers of a part. There are two or three.
const HEADERS_MAX: usize = 32;

/// The headers and the content of the second of two parts.
pub(super) async fn second_part(content_type: &str, body: ByteStream) -> Result<(HeaderMap, ByteStream), String> {
    let boundary = boundary(content_type).ok_or("it is no multipart/mixed with a boundary")?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter may stand at the very beginning, without a line before it.
    let mut reading = Reading { body, buffer: BytesMut::from("\r\n"), delimiter, taken: 0 };
    reading.part_headers().await?;
    let headers = reading.part_headers().await?;
    Ok((headers, stream::try_unfold(Some(reading), content).boxed()))
}

fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let named =
        |parameter: &&str| parameter.trim_start().get(..9).is_some_and(|name| name.eq_ignore_ascii_case("boundary="));
    let value = parameters.split(';').find(named)?.trim().get(9..)?;
    let value = value.strip_prefix('"').map_or(value, |rest| rest.strip_suffix('"').unwrap_or(rest));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (!value.is_empty() && value.len() <= BOUNDARY_MAX_BYTES && value.bytes().all(allowed)).then_some(value)
}

struct Reading {
    body: ByteStream,
    buffer: BytesMut,
    delimiter: Vec<u8>,
    /// How much of the frame was read.
    taken: usize,
}

impl Reading {
    /// Skips to the beginning of the next part, and reads its headers.
    async fn part_headers(&mut self) -> Result<HeaderMap, String> {
        let delimiter = self.delimiter.clone();
        self.take_until(&delimiter).await?;
        let rest_of_line = self.take_until(b"\r\n").await?;
        if rest_of_line.starts_with(b"--") {
            return Err("there are fewer than two parts".to_owned());
        }
        // Where there are no headers, the line that ends them is the next one.
        self.buffer = [b"\r\n", &self.buffer[..]].concat().as_slice().into();
        let head = self.take_until(b"\r\n\r\n").await?;
        headers(&head)
    }

    /// Takes what stands before a mark, and the mark.
    async fn take_until(&mut self, mark: &[u8]) -> Result<BytesMut, String> {
        loop {
            if let Some(position) = memmem::find(&self.buffer, mark) {
                let taken = self.buffer.split_to(position);
                let _ = self.buffer.split_to(mark.len());
                self.taken += position + mark.len();
                return if self.taken > FRAME_MAX_BYTES { Err("its frame is too large".to_owned()) } else { Ok(taken) };
            }
            if self.taken + self.buffer.len() > FRAME_MAX_BYTES {
                return Err("its frame is too large".to_owned());
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.buffer.extend_from_slice(&piece),
                Some(Err(error)) => return Err(format!("it breaks off: {error}")),
                None => return Err("it ends before the medium".to_owned()),
            }
        }
    }
}

fn headers(head: &[u8]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a header without a colon")?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|error| error.to_string())?;
        headers.append(name, value);
        if headers.len() > HEADERS_MAX {
            return Err("too many headers".to_owned());
        }
    }
    Ok(headers)
}

/// The next piece of the content, up to the delimiter.
async fn content(reading: Option<Reading>) -> io::Result<Option<(Bytes, Option<Reading>)>> {
    let Some(mut reading) = reading else { return Ok(None) };
    loop {
        if let Some(position) = memmem::find(&reading.buffer, &reading.delimiter) {
            return Ok(Some((reading.buffer.split_to(position).freeze(), None)));
        }
        // The end may be the beginning of the delimiter.
        let certain = reading.buffer.len().saturating_sub(reading.delimiter.len() - 1);
        if certain > 0 {
            return Ok(Some((reading.buffer.split_to(certain).freeze(), Some(reading))));
        }
        match reading.body.next().await {
            Some(piece) => reading.buffer.extend_from_slice(&piece?),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn read(content_type: &str, body: &[u8], piece_bytes: usize) -> Result<(HeaderMap, Vec<u8>), String> {
        let pieces: Vec<_> = body.chunks(piece_bytes).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let (headers, content) = second_part(content_type, stream::iter(pieces).boxed()).await?;
        let content: Vec<Bytes> = content.try_collect().await.map_err(|error| error.to_string())?;
        Ok((headers, content.concat()))
    }

    const TYPE: &str = "multipart/mixed; boundary=b1";

    #[tokio::test]
    async fn the_second_part_is_read_however_it_is_cut() {
        let body = b"--b1\r\nContent-Type: application/json\r\n\r\n{}\r\n--b1\r\nContent-Type: text/plain\r\n\
            content-disposition: inline; filename=a\r\n\r\nline\r\n--b2\r\n\r\n--b\r\n--b1--\r\n";
        for piece_bytes in [1, 2, 3, 7, 1000] {
            for content_type in [TYPE, "Multipart/Mixed; charset=x; Boundary=\"b1\""] {
                let (headers, content) = read(content_type, body, piece_bytes).await.unwrap();
                assert_eq!(headers["content-type"], "text/plain");
                assert_eq!(content, b"line\r\n--b2\r\n\r\n--b", "{piece_bytes}");
            }
        }
        let bare = b"\r\n--b1\r\n\r\n\r\n--b1 \r\n\r\nx\r\n--b1--";
        assert_eq!(read(TYPE, bare, 5).await.unwrap().1, b"x");
    }

    #[tokio::test]
    async fn s_148_what_is_no_pair_of_parts_is_refused() {
        let headers = "X: y\r\n".repeat(100);
        let huge = format!("--b1\r\nX: {}\r\n\r\n{{}}\r\n--b1\r\n\r\nx\r\n--b1--", "y".repeat(100_000));
        let bodies = [
            String::new(),
            "--b1--".to_owned(),
            "--b1\r\n\r\n{}\r\n--b1--".to_owned(),
            "--b1\r\n\r\n{}\r\n--b1\r\n\r\nnever ends".to_owned(),
            "--b1\r\n\r\n{}\r\n--b1\r\nno colon\r\n\r\nx\r\n--b1--".to_owned(),
            "--b1\r\n\r\n{}\r\n--b1\r\nB\u{e9}d: x\r\n\r\nx\r\n--b1--".to_owned(),
            format!("--b1\r\n{headers}\r\n{{}}\r\n--b1\r\n\r\nx\r\n--b1--"),
            "preamble".repeat(20_000),
            huge,
        ];
        for body in bodies {
            assert!(read(TYPE, body.as_bytes(), 4096).await.is_err(), "{}", &body[..body.len().min(60)]);
        }
        for content_type in [
            "",
            "multipart/mixed",
            "text/plain; boundary=b1",
            "multipart/mixed; boundary=",
            "multipart/mixed; boundary=a\0b",
        ] {
            assert!(read(content_type, b"--b1", 4).await.is_err(), "{content_type}");
        }
        let thousand = format!("{}--b1--", "--b1\r\n\r\n{}\r\n".repeat(1000));
        assert_eq!(read(TYPE, thousand.as_bytes(), 64).await.unwrap().1, b"{}", "the rest is not looked at");
    }
}
