//! Server-sent events out of pieces of bytes, without IO. <https://html.spec.whatwg.org/multipage/server-sent-events.html>
//!
//! Pieces may end anywhere, in the middle of a character too. Lines end in LF, CR or CRLF; comments, which providers send
//! to keep a connection alive, are skipped. What has no end is an attack or a defect: lines and streams have bounds.

use crate::provider::Error;

/// The longest line: a whole answer in one chunk, with its JSON escapes, is far below.
const LINE_BYTES_MAX: usize = 512 * 1024;
/// The longest stream. An answer of 8,000 tokens comes in about 2 MB of chunks.
const STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its `event` field, empty if it has none.
    pub(crate) name: String,
    /// Its `data` fields, joined by line feeds.
    pub(crate) data: String,
}

/// What has been read and not yet given away.
#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    ended_in_cr: bool,
    bytes_read: usize,
    has_begun: bool,
    name: String,
    data: Option<String>,
    events: Vec<Event>,
}

impl Parser {
    /// Takes the next piece and gives the events that it completes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<Event>, Error> {
        self.bytes_read += piece.len();
        if self.bytes_read > STREAM_BYTES_MAX {
            return Err(Error::Malformed("the stream does not end"));
        }
        for byte in piece {
            match byte {
                b'\n' if self.ended_in_cr => self.ended_in_cr = false,
                b'\n' | b'\r' => {
                    self.ended_in_cr = *byte == b'\r';
                    self.end_line()?;
                }
                _ => {
                    self.ended_in_cr = false;
                    self.line.push(*byte);
                }
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > LINE_BYTES_MAX {
                return Err(Error::Malformed("an event of the stream is too long"));
            }
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// The stream has ended. The standard throws away an event without its empty line; some servers leave out the last
    /// one, and what they meant is clear.
    pub(super) fn finish(mut self) -> Result<Vec<Event>, Error> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        self.dispatch();
        Ok(self.events)
    }

    fn end_line(&mut self) -> Result<(), Error> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| Error::Malformed("the stream is not UTF-8"))?;
        let line = if self.has_begun { line.as_str() } else { line.trim_start_matches('\u{feff}') };
        self.has_begun = true;
        if line.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.name),
            // `id` and `retry` are for streams that can be resumed; a line that begins with a colon is a comment.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            self.events.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, LINE_BYTES_MAX, Parser, STREAM_BYTES_MAX};
    use crate::provider::Error;

    const STREAM: &str = "\u{feff}: OPENROUTER PROCESSING\n\ndata: {\"a\":\"gr\u{fc}n \u{1f9a9}\"}\r\n\r\nevent: ping\rdata:1\rdata:  2\r\rid: 7\nretry: 1\n\ndata\n\ndata: [DONE]";

    fn events(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(parser.feed(&piece).unwrap());
        }
        all.extend(parser.finish().unwrap());
        all
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let expected: Vec<Event> =
            [("", "{\"a\":\"gr\u{fc}n \u{1f9a9}\"}"), ("ping", "1\n 2"), ("", ""), ("", "[DONE]")]
                .map(|(name, data)| Event { name: name.to_owned(), data: data.to_owned() })
                .into();
        for size in 1..STREAM.len() {
            assert_eq!(events(STREAM.as_bytes().chunks(size).map(<[u8]>::to_vec)), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_does_not_end_is_an_error() {
        let mut parser = Parser::default();
        assert!(matches!(parser.feed(&vec![b'x'; LINE_BYTES_MAX + 1]), Err(Error::Malformed(_))));

        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(1000)).into_bytes();
        let outcome = (0..=LINE_BYTES_MAX / 1000).find_map(|_| parser.feed(&line).err());
        assert!(matches!(outcome, Some(Error::Malformed(_))), "many lines of one event");

        let mut parser = Parser::default();
        let comment = [b": keep-alive ".repeat(1000), b"\n".to_vec()].concat();
        let outcome = (0..=STREAM_BYTES_MAX / comment.len()).find_map(|_| parser.feed(&comment).err());
        assert!(matches!(outcome, Some(Error::Malformed(_))), "comments for ever");
    }

    #[test]
    fn what_is_not_utf_8_is_an_error() {
        assert!(Parser::default().feed(b"data: \xff\n").is_err());
    }
}
