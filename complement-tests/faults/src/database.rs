//! A fresh data folder and database for one test.

use std::{fs::File, path::Path};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// Where a server under test keeps its things; gone when dropped, but for a PostgreSQL database.
pub struct Database {
    folder: TempDir,
    postgres: Option<String>,
}

impl Database {
    /// SQLite in the data folder.
    pub fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), postgres: None }
    }

    /// A new database in the cluster at `NUDGE_TEST_POSTGRES_URL`; `None` when that is not set.
    pub async fn postgres(name: &str) -> Option<Self> {
        let cluster = std::env::var("NUDGE_TEST_POSTGRES_URL").ok()?;
        let name = format!("nudge_{name}_{}", std::process::id());
        let mut connection = PgConnection::connect(&cluster).await.expect("the cluster runs");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.expect("a database can be made");
        let (server, _) = cluster.rsplit_once('/').expect("the URL names a database");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Some(Self { folder, postgres: Some(format!("{server}/{name}")) })
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// What `--database-url` takes.
    pub fn url(&self) -> String {
        let sqlite = || format!("sqlite:{}", self.folder.path().join("nudge.db").display());
        self.postgres.clone().unwrap_or_else(sqlite)
    }

    /// What the servers on this folder have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("test.log")).unwrap_or_default()
    }

    pub(crate) fn log_file(&self) -> File {
        let path = self.folder.path().join("test.log");
        File::options().create(true).append(true).open(path).expect("the log can be opened")
    }
}
