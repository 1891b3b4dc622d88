//! Writing many rows at once, and many statements in one go.
//!
//! The rows of an `INSERT` are bound as one JSON array. So a table has one text, whatever the number of rows, and is
//! prepared once per connection. The statements of a [`Script`] go together: SQLite's connection lives in a thread of its
//! own, PostgreSQL in another process, and going there and back costs more than most statements do.

use std::sync::{Arc, OnceLock};

use crate::{
    database::Transaction,
    dialect::{Backend, db},
};
use serde::{Serialize, Serializer};

/// How many rows one statement inserts at most, so that its JSON stays small.
const ROWS_MAX: usize = 1_024;

/// The value of one column of one row.
#[derive(Clone, Debug, PartialEq)]
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

/// A query of a text with its arguments.
macro_rules! bound {
    ($text:expr, $arguments:expr) => {
        $arguments.into_iter().fold(sqlx::query(sqlx::AssertSqlSafe($text)), |query, value| match value {
            $crate::insert::Value::Integer(value) => query.bind(value),
            $crate::insert::Value::Text(value) => query.bind(value),
            $crate::insert::Value::Boolean(value) => query.bind(value),
        })
    };
}
pub(crate) use bound;

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

/// Statements that are run together: each in its turn on SQLite, in any order on PostgreSQL. So none of them may read a
/// table that another one changes.
#[derive(Default)]
pub(crate) struct Script {
    statements: Vec<Statement>,
    /// How many rows they insert.
    rows: usize,
}

struct Statement {
    /// What it changes.
    table: &'static str,
    /// With `?` where the arguments belong.
    sqlite: Arc<str>,
    postgres: Arc<str>,
    arguments: Vec<Value>,
}

/// What is run in one go.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) arguments: Vec<Value>,
    /// How many statements there are in the text, one after the other.
    pub(crate) statements: usize,
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
            let table = changed_table(insert.into);
            self.statements.push(Statement { table, sqlite, postgres, arguments: row![json] });
        }
    }

    /// How many rows it inserts.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Adds an `UPDATE` or a `DELETE`. Its text is the same for both databases, with `?` where the arguments belong.
    pub(crate) fn add(&mut self, text: &'static str, arguments: Vec<Value>) {
        let (table, text): (_, Arc<str>) = (changed_table(text), text.into());
        self.statements.push(Statement { table, sqlite: Arc::clone(&text), postgres: text, arguments });
    }

    /// Runs the statements.
    pub(crate) async fn run(self, transaction: &mut Transaction) -> sqlx::Result<()> {
        let is_sqlite = matches!(transaction.connection(), Backend::Sqlite(_));
        let steps = if is_sqlite { self.for_sqlite(None) } else { self.for_postgres() };
        for Step { text, arguments, .. } in steps {
            db!(transaction.connection(), |connection| bound!(text, arguments).execute(connection).await.map(drop))?;
        }
        Ok(())
    }

    /// As few texts as possible, one statement after the other in each, and `end` after the last.
    pub(crate) fn for_sqlite(self, end: Option<&str>) -> Vec<Step> {
        let step = |statements: Vec<Statement>| {
            let texts: Vec<&str> = statements.iter().map(|statement| &*statement.sqlite).collect();
            let text = texts.join("; ");
            Step { text, statements: statements.len(), arguments: arguments(statements) }
        };
        let mut steps: Vec<Step> = self.apart().into_iter().map(step).collect();
        match (steps.last_mut(), end) {
            (Some(last), Some(end)) => {
                last.text = format!("{}; {end}", last.text);
                last.statements += 1;
            }
            (None, Some(end)) => steps.push(Step { text: end.to_owned(), arguments: Vec::new(), statements: 1 }),
            (_, None) => {}
        }
        steps
    }

    /// As few texts as possible, each of one statement, of which all but one are made parts.
    fn for_postgres(self) -> Vec<Step> {
        let step = |mut statements: Vec<Statement>| {
            // The main statement is run first and the last part next. So rows are locked in the order of the script.
            statements.reverse();
            let (main, parts) = statements.split_last().expect("a step has a statement");
            let part = |(part, number): (&Statement, usize)| format!("part_{number} AS ({})", part.postgres);
            let parts: Vec<_> = parts.iter().zip(1..).map(part).collect();
            let with = if parts.is_empty() { String::new() } else { format!("WITH {} ", parts.join(", ")) };
            let text = numbered(&format!("{with}{}", main.postgres));
            Step { text, arguments: arguments(statements), statements: 1 }
        };
        self.apart().into_iter().map(step).collect()
    }

    /// The statements in their order, together until one comes that changes a table which another has changed before:
    /// PostgreSQL would not see the first change in the second. So there are few different texts, too, and they stay
    /// prepared.
    fn apart(self) -> Vec<Vec<Statement>> {
        let mut steps: Vec<Vec<Statement>> = Vec::new();
        for statement in self.statements {
            match steps.last_mut() {
                Some(step) if step.iter().all(|earlier| earlier.table != statement.table) => step.push(statement),
                _ => steps.push(vec![statement]),
            }
        }
        steps
    }
}

fn arguments(statements: Vec<Statement>) -> Vec<Value> {
    statements.into_iter().flat_map(|statement| statement.arguments).collect()
}

/// Which table a statement changes.
fn changed_table(text: &'static str) -> &'static str {
    let mut words = text.split_ascii_whitespace();
    words.find(|word| !["UPDATE", "DELETE", "FROM"].contains(word)).unwrap_or_default()
}

/// The text with `$1`, `$2`, ... in the place of each `?`.
fn numbered(text: &str) -> String {
    let mut parts = text.split('?');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.zip(1..).fold(first, |text, (part, number)| format!("{text}${number}{part}"))
}

#[cfg(test)]
mod tests {
    use super::{Insert, Script, Step, Value, numbered};

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

    fn script() -> Script {
        let mut script = Script::default();
        script.insert(&NAMES, vec![row![1], row![2]]);
        script.add("UPDATE head SET a = ?, b = ?", row![3, 4]);
        script.add("DELETE FROM names WHERE a = ?", row![5]);
        script
    }

    fn step(text: &str, arguments: Vec<Value>, statements: usize) -> Step {
        Step { text: text.to_owned(), arguments, statements }
    }

    #[test]
    fn statements_go_together_until_a_table_comes_again() {
        let names = "INSERT INTO names (a) SELECT value ->> 0 FROM json_each(?) WHERE TRUE ";
        let sqlite = [
            step(&format!("{names}; UPDATE head SET a = ?, b = ?"), row!["[[1],[2]]", 3, 4], 2),
            step("DELETE FROM names WHERE a = ?; COMMIT", row![5], 2),
        ];
        assert_eq!(script().for_sqlite(Some("COMMIT")), sqlite);
        let names = "INSERT INTO names (a) SELECT CAST(value ->> 0 AS BIGINT) \
            FROM jsonb_array_elements(CAST($3 AS JSONB)) AS rows (value) WHERE TRUE ";
        let postgres = [
            step(&format!("WITH part_1 AS (UPDATE head SET a = $1, b = $2) {names}"), row![3, 4, "[[1],[2]]"], 1),
            step("DELETE FROM names WHERE a = $1", row![5], 1),
        ];
        assert_eq!(script().for_postgres(), postgres);
        assert_eq!(Script::default().for_sqlite(Some("COMMIT")), [step("COMMIT", Vec::new(), 1)]);
        assert_eq!(Script::default().for_sqlite(None), []);
    }

    #[test]
    fn placeholders_are_numbered() {
        assert_eq!(numbered("a = ? AND b = ?"), "a = $1 AND b = $2");
    }
}
