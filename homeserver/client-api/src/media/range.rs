//! Parts of files: one at a time, which is what players and resumed downloads ask for. Several at once are answered by
//! the whole file.
//!
//! Spec: <https://www.rfc-editor.org/rfc/rfc9110#name-range-requests>

use std::ops::Range;

use axum::http::{HeaderMap, header};

use crate::{Result, error::ApiError};

/// A part of a file that lies within it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part(pub(super) Range<u64>);

/// The part that the headers ask for; `None` for the whole file.
pub(super) fn part(headers: &HeaderMap, etag: &str, size: u64) -> Result<Option<Part>> {
    // A client that resumes what has changed meanwhile would put two files together.
    if headers.get(header::IF_RANGE).is_some_and(|known| known != etag) {
        return Ok(None);
    }
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = asked.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => number(last).map(|length| size.saturating_sub(length)..size),
        (first, "") => number(first).map(|first| first..size),
        (first, last) => number(first)
            .zip(number(last))
            .and_then(|(first, last)| (first <= last).then(|| first..last.saturating_add(1).min(size))),
    };
    match range {
        // Nonsense, and several parts: as if nothing had been asked for.
        None => Ok(None),
        Some(range) if range.start >= range.end => Err(ApiError::RangeNotSatisfiable { size }),
        Some(range) => Ok(Some(Part(range))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(range: &str) -> Result<Option<Range<u64>>, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        part(&headers, "\"e\"", 1000).map(|part| part.map(|Part(range)| range)).map_err(|_| "unsatisfiable")
    }

    #[test]
    fn s_145_parts_within_the_file_and_nothing_else() {
        assert_eq!(asked("bytes=0-499"), Ok(Some(0..500)));
        assert_eq!(asked("bytes=500-"), Ok(Some(500..1000)));
        assert_eq!(asked("bytes=-1"), Ok(Some(999..1000)));
        assert_eq!(asked("bytes=-5000"), Ok(Some(0..1000)));
        assert_eq!(asked("bytes=999-18446744073709551615"), Ok(Some(999..1000)));
        for unsatisfiable in ["bytes=1000-", "bytes=1000-2000", "bytes=-0"] {
            assert_eq!(asked(unsatisfiable), Err("unsatisfiable"), "{unsatisfiable}");
        }
        let nonsense = [
            "",
            "bytes=",
            "bytes=-",
            "bytes=5-1",
            "bytes=a-b",
            "bytes=0-1,5-9",
            "items=0-1",
            "bytes=--1",
            "bytes=99999999999999999999-",
            "bytes=0-1,0-1,0-1,0-1,0-1,0-1",
        ];
        for nonsense in nonsense {
            assert_eq!(asked(nonsense), Ok(None), "{nonsense}");
        }
    }
}
