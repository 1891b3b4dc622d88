//! Writing many rows at once, and many statements in one go.
//!
//! The rows of an `INSERT` are bound as one JSON array. So a table has one text, whatever the number of rows, and is
//! prepared once per connection. To SQLite the statements of a [`Script`] go together: its connection lives in a thread
//! of its own, and going there and back costs more than most statements do.

use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use sqlx::AssertSqlSafe;

use crate::{
    database::Transaction,
    dialect::{Backend, db},
};

/// How many rows one statement inserts at most, so that its JSON stays small.
const ROWS_MAX: usize = 1_024;

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

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(value) => value.serialize(serializer),
            Self::Text(value) => value.serialize(serializer),
            Self::Boolean(value) => value.serialize(serializer),
        }
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
    conflict: &'static str,
    sqlite: OnceLock<Arc<str>>,
    postgres: OnceLock<Arc<str>>,
}

impl Insert {
    /// `into` is the table with its columns in brackets, and `conflict` the `ON CONFLICT` clause or nothing. With
    /// `DO UPDATE`, no two rows may have the same key.
    pub(crate) const fn new(into: &'static str, conflict: &'static str) -> Self {
        Self { into, conflict, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// Inserts all rows.
    pub(crate) async fn run(&'static self, transaction: &mut Transaction, rows: Vec<Vec<Value>>) -> sqlx::Result<()> {
        let mut script = Script::default();
        script.insert(self, rows);
        script.run(transaction).await
    }

    /// The texts for SQLite and for PostgreSQL, for rows that are like this one.
    fn texts(&self, row: &[Value]) -> [Arc<str>; 2] {
        let sqlite = self.sqlite.get_or_init(|| {
            let columns: Vec<_> = (0..row.len()).map(|column| format!("value ->> {column}")).collect();
            self.text(&columns, "json_each(?)")
        });
        let postgres = self.postgres.get_or_init(|| {
            let columns: Vec<_> = row.iter().enumerate().map(postgres_column).collect();
            self.text(&columns, "jsonb_array_elements(CAST(? AS JSONB)) AS rows (value)")
        });
        [Arc::clone(sqlite), Arc::clone(postgres)]
    }

    fn text(&self, columns: &[String], rows: &str) -> Arc<str> {
        // Without the condition, SQLite would take ON CONFLICT for that of a join.
        format!("INSERT INTO {} SELECT {} FROM {rows} WHERE TRUE {}", self.into, columns.join(", "), self.conflict)
            .into()
    }
}

fn postgres_column((column, value): (usize, &Value)) -> String {
    match value {
        Value::Integer(_) => format!("CAST(value ->> {column} AS BIGINT)"),
        Value::Text(_) => format!("value ->> {column}"),
        Value::Boolean(_) => format!("CAST(value ->> {column} AS BOOLEAN)"),
    }
}

/// Statements that are run one after the other.
#[derive(Default)]
pub(crate) struct Script {
    statements: Vec<Statement>,
    /// How many rows they insert.
    rows: usize,
}

struct Statement {
    /// With `?` where the arguments belong.
    sqlite: Arc<str>,
    postgres: Arc<str>,
    arguments: Vec<Value>,
}

impl Script {
    /// Adds the insertion of rows.
    pub(crate) fn insert(&mut self, insert: &'static Insert, rows: impl IntoIterator<Item = Vec<Value>>) {
        let mut rows = rows.into_iter();
        loop {
            let rows: Vec<_> = rows.by_ref().take(ROWS_MAX).collect();
            let Some(first) = rows.first() else { return };
            self.rows += rows.len();
            let [sqlite, postgres] = insert.texts(first);
            let json = serde_json::to_string(&rows).expect("numbers and texts can be written as JSON");
            self.statements.push(Statement { sqlite, postgres, arguments: row![json] });
        }
    }

    /// How many rows it inserts.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a statement. Its text is the same for both databases, with `?` where the arguments belong.
    pub(crate) fn add(&mut self, text: &'static str, arguments: Vec<Value>) {
        let text: Arc<str> = text.into();
        self.statements.push(Statement { sqlite: Arc::clone(&text), postgres: text, arguments });
    }

    /// Runs the statements.
    pub(crate) async fn run(self, transaction: &mut Transaction) -> sqlx::Result<()> {
        let is_sqlite = matches!(transaction.connection(), Backend::Sqlite(_));
        let steps = if is_sqlite { self.together() } else { self.one_by_one() };
        for (text, arguments) in steps {
            db!(transaction.connection(), |connection| {
                let query = arguments.into_iter().fold(sqlx::query(AssertSqlSafe(text)), |query, value| match value {
                    Value::Integer(value) => query.bind(value),
                    Value::Text(value) => query.bind(value),
                    Value::Boolean(value) => query.bind(value),
                });
                query.execute(connection).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// As few texts as possible, none of which holds the same statement twice: so there are few different ones, and they
    /// stay prepared.
    fn together(self) -> Vec<(String, Vec<Value>)> {
        let mut steps: Vec<(Vec<Arc<str>>, Vec<Value>)> = Vec::new();
        for statement in self.statements {
            match steps.last_mut() {
                Some((texts, arguments)) if !texts.contains(&statement.sqlite) => {
                    texts.push(statement.sqlite);
                    arguments.extend(statement.arguments);
                }
                _ => steps.push((vec![statement.sqlite], statement.arguments)),
            }
        }
        steps.into_iter().map(|(texts, arguments)| (texts.join("; "), arguments)).collect()
    }

    fn one_by_one(self) -> Vec<(String, Vec<Value>)> {
        self.statements.into_iter().map(|statement| (numbered(&statement.postgres), statement.arguments)).collect()
    }
}

/// The text with `$1`, `$2`, ... in the place of each `?`.
fn numbered(text: &str) -> String {
    let mut parts = text.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.zip(1..).fold(first, |text, (part, number)| format!("{text}${number}{part}"))
}

#[cfg(test)]
mod tests {
    use super::{Insert, Script, numbered};

    static LOG: Insert = Insert::new("log (a, b, c)", "ON CONFLICT DO NOTHING");
    static NAMES: Insert = Insert::new("names (a)", "");

    #[test]
    fn a_table_has_one_text_for_each_database() {
        let [sqlite, postgres] = LOG.texts(&[1.into(), "b".into(), true.into()]);
        let text = "INSERT INTO log (a, b, c) SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE TRUE \
            ON CONFLICT DO NOTHING";
        assert_eq!(&*sqlite, text);
        let text = "INSERT INTO log (a, b, c) SELECT CAST(value ->> 0 AS BIGINT), value ->> 1, \
            CAST(value ->> 2 AS BOOLEAN) FROM jsonb_array_elements(CAST(? AS JSONB)) AS rows (value) WHERE TRUE \
            ON CONFLICT DO NOTHING";
        assert_eq!(&*postgres, text);
    }

    #[test]
    fn statements_go_together_until_one_comes_again() {
        let mut script = Script::default();
        script.insert(&NAMES, vec![row![1], row![2]]);
        script.add("UPDATE head SET a = ?, b = ?", row![3, 4]);
        script.insert(&NAMES, vec![row![5]]);
        let steps: Vec<_> =
            script.together().into_iter().map(|(text, arguments)| (text, format!("{arguments:?}"))).collect();
        let names = "INSERT INTO names (a) SELECT value ->> 0 FROM json_each(?) WHERE TRUE ";
        let first = format!("{names}; UPDATE head SET a = ?, b = ?");
        let arguments = r#"[Text(Some("[[1],[2]]")), Integer(Some(3)), Integer(Some(4))]"#;
        assert_eq!(steps[0], (first, arguments.to_owned()));
        assert_eq!(steps[1].0, names);
    }

    #[test]
    fn placeholders_are_numbered() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
    }
}
