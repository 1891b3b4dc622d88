//! How one text of SQL serves both databases.
//!
//! `$1` placeholders, `ON CONFLICT`, `RETURNING` and recursive queries are the same in both. A list of any length is
//! bound as one JSON array and read with `json_each($1)`: SQLite has that function, and the migrations give it to
//! PostgreSQL. What is left is which driver runs a text, which is what [`db!`] decides.
//!
//! A limit is written `LIMIT +$1`: where a parameter stands there alone, SQLite looks at its value to plan the statement,
//! and so plans it anew each time that one is bound, which costs more than most statements themselves.

use std::fmt;

use ruma::OwnedEventId;

use crate::{Result, StorageError};

/// Something of one database or the other: connections, transactions.
pub(crate) enum Backend<S, P> {
    /// SQLite's.
    Sqlite(S),
    /// PostgreSQL's.
    Postgres(P),
}

impl<S, P> Backend<S, P> {
    /// The spelling that it understands, of what is spelled differently.
    pub(crate) fn spelled<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Runs the same code on whichever database it is; the compiler checks it once for each.
macro_rules! db {
    ($backend:expr, |$connection:ident| $body:expr) => {
        match $backend {
            $crate::dialect::Backend::Sqlite($connection) => $body,
            $crate::dialect::Backend::Postgres($connection) => $body,
        }
    };
}
pub(crate) use db;

/// The longest text, in bytes, that is stored where an index holds it: PostgreSQL's indexes take no more than 2.7 kB a
/// row, of which a key may have up to three texts like these.
const TEXT_MAX_BYTES: usize = 850;

/// A text that both databases can keep and find again, as it is. `what` is named in the error.
pub(crate) fn storable<'a>(text: &'a str, what: &'static str) -> Result<&'a str> {
    if is_storable(text) { Ok(text) } else { Err(StorageError::Unstorable(what)) }
}

/// Whether both databases can keep a text and find it again.
pub(crate) fn is_storable(text: &str) -> bool {
    text.len() <= TEXT_MAX_BYTES && !text.contains('\0')
}

/// A text that no index holds, of any length: PostgreSQL cannot keep a NUL character.
pub(crate) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A list for `json_each($1)`. Texts that cannot have been stored are left out: they would not be found.
pub(crate) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<&str> = texts.into_iter().filter(|text| is_storable(text)).collect();
    serde_json::Value::from(texts).to_string()
}

/// A list of event ids for `json_each($1)`.
pub(crate) fn event_id_list(event_ids: &[OwnedEventId]) -> String {
    list(event_ids.iter().map(|event_id| event_id.as_str()))
}

/// A list of numbers for `json_each($1)`, to be read as `CAST(value AS BIGINT)`.
pub(crate) fn number_list(numbers: impl IntoIterator<Item = i64>) -> String {
    serde_json::Value::from(numbers.into_iter().collect::<Vec<i64>>()).to_string()
}

/// A stored identifier in its type.
pub(crate) fn parsed<T>(text: &str, table: &'static str, column: &'static str) -> Result<T>
where
    T: for<'a> TryFrom<&'a str, Error: fmt::Display>,
{
    T::try_from(text).map_err(|error| StorageError::corrupt(table, column, text, &error))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{is_storable, list};

    #[test]
    fn lists_leave_out_what_cannot_be_stored() {
        assert_eq!(list(["a\"b", "nul\0", "c"]), r#"["a\"b","c"]"#);
        assert!(!is_storable(&"x".repeat(851)));
    }

    #[test]
    fn no_statement_is_planned_anew_for_its_limit() {
        fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    sources(&path, found);
                } else {
                    found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        for (name, source) in &found {
            for bare in ["LIMIT", "OFFSET"].map(|word| format!("{word} $")) {
                assert!(!source.contains(&bare), "{name}: {bare}");
            }
        }
        assert!(found.iter().any(|(_, source)| source.contains("LIMIT +$")));
    }
}
