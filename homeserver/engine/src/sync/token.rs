//! Tokens: points in the log, and points in a room's timeline.
//!
//! Both are numbers, and clients may make them up: a point only says where reading starts, never what may be read.

use std::{fmt, str::FromStr};

use rules::change::Position;

use crate::{EngineError, Result};

/// Where a sync ended: everything up to the position was told, and all typing and presence up to their counters, but of
/// the messages to the device only those up to `to_device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncToken {
    /// The position in the log.
    pub(crate) position: Position,
    /// The count of changes of who is typing, which lives in memory only.
    pub(crate) typing: u64,
    /// The user's own count of changes of others' presence, which lives in memory too.
    pub(crate) presence: u64,
    /// The position up to which messages to the device were told: at most `position`.
    pub(crate) to_device: Position,
}

impl SyncToken {
    /// Where everything but typing and presence was told up to a position.
    pub(crate) fn new(position: Position, typing: u64) -> Self {
        Self { position, typing, presence: 0, to_device: position }
    }

    /// Reads `s{position}_{typing}_{presence}`, with another `_{to_device}` where messages to the device are behind.
    /// Tokens of before there was presence end with the typing.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.strip_prefix('s').unwrap_or_default().split('_');
        let mut read = || {
            let (position, typing) = (natural(parts.next()?)?, natural(parts.next()?)?);
            let presence = parts.next().map_or(Some(0), natural)?;
            let to_device =
                parts.next().map_or(Some(position), |behind| natural(behind).filter(|behind| *behind < position))?;
            parts.next().is_none().then_some(Self { position, typing, presence, to_device })
        };
        let token = read();
        token.ok_or_else(|| EngineError::invalid_param("Not a token of this server's /sync"))
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s{}_{}_{}", self.position, self.typing, self.presence)?;
        if self.to_device == self.position { Ok(()) } else { write!(formatter, "_{}", self.to_device) }
    }
}

/// A point in a room's timeline: just after the event of this order. Written `t{order}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimelineToken(pub(crate) i64);

impl TimelineToken {
    /// Reads a point in a timeline, or takes the one that a sync token means.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some(order) = text.strip_prefix('t') else {
            return SyncToken::parse(text).map(|token| Self(token.position));
        };
        let number = match order.strip_prefix('-') {
            // There is one way to write zero.
            Some("0") => None,
            Some(digits) => natural::<i64>(digits).map(|number| -number),
            None => natural(order),
        };
        number.map(Self).ok_or_else(|| EngineError::invalid_param("Not a pagination token of this server"))
    }
}

impl fmt::Display for TimelineToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "t{}", self.0)
    }
}

/// A number in the one way that we write it: digits only, no leading zeros.
fn natural<T: FromStr>(text: &str) -> Option<T> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_digits && is_canonical).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_as_they_are_written() {
        for token in [
            SyncToken::new(0, 0),
            SyncToken { presence: 9, ..SyncToken::new(42, 7) },
            SyncToken { position: 42, typing: 7, presence: 9, to_device: 41 },
            SyncToken { presence: u64::MAX, ..SyncToken::new(i64::MAX, u64::MAX) },
        ] {
            assert_eq!(SyncToken::parse(&token.to_string()).unwrap(), token);
            assert_eq!(TimelineToken::parse(&token.to_string()).unwrap(), TimelineToken(token.position));
        }
        assert_eq!(SyncToken::parse("s42_7").unwrap(), SyncToken::new(42, 7));
        for order in [0, 1, -1, 900, -900, i64::MAX, -i64::MAX] {
            let token = TimelineToken(order);
            assert_eq!(TimelineToken::parse(&token.to_string()).unwrap(), token);
        }
    }

    #[test]
    fn s_141_junk_is_no_token() {
        let junk = [
            "",
            "s",
            "s_",
            "s1",
            "s1_",
            "s_1",
            "s-1_0",
            "s1_-1",
            "s+1_0",
            "s01_0",
            "s1_00",
            "s 1_0",
            "s1_0 ",
            "S1_0",
            "s1_0_",
            "s1_0_00",
            "s1_0_-1",
            "s1_0_0_1",
            "s1_0_0_0_0",
            "s9223372036854775808_0",
            "s1_18446744073709551616",
            "1_0",
            "1",
            "s\u{661}_0",
            "s1_0\0",
        ];
        for text in junk {
            assert!(matches!(SyncToken::parse(text), Err(EngineError::InvalidParam(_))), "{text:?}");
            assert!(matches!(TimelineToken::parse(text), Err(EngineError::InvalidParam(_))), "{text:?}");
        }
        for text in ["t", "t-", "t--1", "t+1", "t-0", "t01", "t1_0", "t1 ", "t9223372036854775808", "t1e3"] {
            assert!(matches!(TimelineToken::parse(text), Err(EngineError::InvalidParam(_))), "{text:?}");
        }
    }
}
