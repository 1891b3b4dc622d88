//! Inserting many rows at once: statements of a few fixed sizes, so that each is prepared only once per connection.

use std::sync::{Arc, OnceLock};

use sqlx::AssertSqlSafe;

use crate::{
    database::Transaction,
    dialect::{Backend, db},
};

/// How many rows one statement inserts. Any number of rows is a sum of few of these.
const SIZES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// The value of one column of one row.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Boolean(bool),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

/// One row's values, in the order of the statement's columns.
macro_rules! row {
    ($($value:expr),+ $(,)?) => { vec![$($crate::insert::Value::from($value)),+] };
}
pub(crate) use row;

/// An `INSERT` of many rows into one table.
pub(crate) struct Insert {
    into: &'static str,
    columns: usize,
    conflict: &'static str,
    texts: Texts,
    sqlite_texts: Texts,
}

/// The statement in each size, once it was needed.
type Texts = [OnceLock<Arc<str>>; SIZES.len()];

/// None was needed yet.
#[expect(clippy::declare_interior_mutable_const, reason = "each use is meant to be a new one")]
const NO_TEXTS: Texts = [const { OnceLock::new() }; SIZES.len()];

impl Insert {
    /// `into` is the table with its columns in brackets, `columns` their number, and `conflict` the `ON CONFLICT` clause
    /// or nothing. With `DO UPDATE`, no two rows may have the same key.
    pub(crate) const fn new(into: &'static str, columns: usize, conflict: &'static str) -> Self {
        Self { into, columns, conflict, texts: NO_TEXTS, sqlite_texts: NO_TEXTS }
    }

    /// Inserts all rows.
    pub(crate) async fn run(&self, transaction: &mut Transaction, rows: Vec<Vec<Value>>) -> sqlx::Result<()> {
        let mut left = rows.len();
        let mut rows = rows.into_iter();
        // SQLite looks numbered placeholders up by name, one after the other: with hundreds of them that takes longer
        // than the insertion.
        let (numbered, texts) = match transaction.connection() {
            Backend::Sqlite(_) => (false, &self.sqlite_texts),
            Backend::Postgres(_) => (true, &self.texts),
        };
        for (size, text) in SIZES.into_iter().zip(texts) {
            while left >= size {
                let text = AssertSqlSafe(text.get_or_init(|| self.text(size, numbered)).clone());
                let values = rows.by_ref().take(size).flatten();
                db!(transaction.connection(), |connection| {
                    let query = values.fold(sqlx::query(text), |query, value| match value {
                        Value::Integer(value) => query.bind(value),
                        Value::Text(value) => query.bind(value),
                        Value::Boolean(value) => query.bind(value),
                    });
                    query.execute(connection).await.map(drop)
                })?;
                left -= size;
            }
        }
        Ok(())
    }

    fn text(&self, rows: usize, numbered: bool) -> Arc<str> {
        let placeholder = |number: usize| if numbered { format!("${number}") } else { "?".to_owned() };
        let row = |row: usize| {
            let values: Vec<String> =
                (1..=self.columns).map(|column| placeholder(row * self.columns + column)).collect();
            format!("({})", values.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("INSERT INTO {} VALUES {} {}", self.into, rows.join(", "), self.conflict).into()
    }
}

#[cfg(test)]
mod tests {
    use super::Insert;

    #[test]
    fn placeholders_count_on_from_row_to_row() {
        let insert = Insert::new("log (a, b)", 2, "ON CONFLICT DO NOTHING");
        let text = "INSERT INTO log (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING";
        assert_eq!(&*insert.text(2, true), text);
        let text = "INSERT INTO log (a, b) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING";
        assert_eq!(&*insert.text(2, false), text);
    }
}
