//! The dictionary of texts that repeat: room ids, user ids, server names, event types, state keys.
//!
//! Tables hold their numbers. A state key may hold a NUL character, which PostgreSQL cannot keep, so names are stored
//! escaped, in both databases.

use std::borrow::Cow;

use moka::sync::Cache;

/// What stands before an escaped character: a code point that is never assigned to a character.
const ESCAPE: char = '\u{10ffff}';

/// How many names are remembered. At some 100 bytes each, 4 MB.
const CACHED_NAMES: u64 = 40_000;

/// The name as it is stored.
pub(crate) fn encode(name: &str) -> Cow<'_, str> {
    if !name.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(name);
    }
    let mut stored = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        match character {
            '\0' => stored.extend([ESCAPE, '0']),
            ESCAPE => stored.extend([ESCAPE, ESCAPE]),
            character => stored.push(character),
        }
    }
    Cow::Owned(stored)
}

/// The name that was stored.
pub(crate) fn decode(stored: String) -> String {
    if !stored.contains(ESCAPE) {
        return stored;
    }
    let mut name = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => name.push(if characters.next() == Some('0') { '\0' } else { ESCAPE }),
            character => name.push(character),
        }
    }
    name
}

/// The numbers of names that were used lately. A name never gets another number, so nothing is ever forgotten because
/// it changed.
pub(crate) struct NameCache(Cache<String, i64>);

impl NameCache {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CACHED_NAMES))
    }

    /// The number of an encoded name.
    pub(crate) fn get(&self, encoded: &str) -> Option<i64> {
        self.0.get(encoded)
    }

    /// Remembers a committed name.
    pub(crate) fn put(&self, encoded: String, nid: i64) {
        self.0.insert(encoded, nid);
    }

    /// How many names are remembered.
    pub(crate) fn count(&self) -> u64 {
        self.0.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::{ESCAPE, decode, encode};

    #[test]
    fn every_name_comes_back() {
        for name in ["", "@a:b", "nul\0", "\0\0", &format!("{ESCAPE}0"), &format!("{ESCAPE}{ESCAPE}\0")] {
            let stored = encode(name);
            assert!(!stored.contains('\0'));
            assert_eq!(decode(stored.into_owned()), name);
        }
    }
}
