//! A fresh data folder and database for one test.

use std::{fs::File, path::Path, process::Command};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// Where a server under test keeps its things; gone when dropped, but for a PostgreSQL database.
pub struct Database {
    /// Whose things they are.
    server_name: String,
    folder: TempDir,
    postgres: Option<String>,
    /// Whether a file system of its own is mounted at the folder.
    is_mounted: bool,
}

impl Database {
    /// SQLite in the data folder.
    pub fn sqlite() -> Self {
        Self::of("localhost".to_owned())
    }

    /// The same of a server of that name.
    pub fn of(server_name: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { server_name, folder, postgres: None, is_mounted: false }
    }

    /// The same, on a disk of its own that is only so large; `None` when none can be mounted, which takes root.
    pub fn on_a_small_disk(bytes: u64) -> Option<Self> {
        let mut database = Self::sqlite();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(database.folder.path());
        database.is_mounted = mount.output().is_ok_and(|done| done.status.success());
        database.is_mounted.then_some(database)
    }

    /// A database of PostgreSQL that is there already.
    pub fn at(url: &str) -> Self {
        let mut database = Self::sqlite();
        database.postgres = Some(url.to_owned());
        database
    }

    /// A new database in the cluster at `NUDGE_TEST_POSTGRES_URL`; `None` when that is not set.
    pub async fn postgres(name: &str) -> Option<Self> {
        let cluster = std::env::var("NUDGE_TEST_POSTGRES_URL").ok()?;
        let name = format!("nudge_{name}_{}", std::process::id());
        let mut connection = PgConnection::connect(&cluster).await.expect("the cluster runs");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut connection).await.expect("a database can be made");
        let (server, _) = cluster.rsplit_once('/').expect("the URL names a database");
        Some(Self::at(&format!("{server}/{name}")))
    }

    /// The host and port of the PostgreSQL server.
    pub fn host(&self) -> &str {
        let url = self.postgres.as_deref().expect("the database is PostgreSQL's");
        let (_, place) = url.split_once('@').expect("the URL names a user");
        place.split_once('/').expect("the URL names a database").0
    }

    /// Another way to the same database.
    pub fn reach_by(&mut self, port: u16) {
        let host = self.host().to_owned();
        self.postgres = self.postgres.take().map(|url| url.replace(&host, &format!("127.0.0.1:{port}")));
    }

    /// A connection behind the server's back, to PostgreSQL.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.expect("the cluster runs")
    }

    /// The name of the server.
    pub fn server_name(&self) -> &str {
        &self.server_name
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

impl Drop for Database {
    fn drop(&mut self) {
        if self.is_mounted {
            // What cannot be taken away now is when nobody uses it any more.
            let _ = Command::new("umount").arg("-l").arg(self.folder.path()).output();
        }
    }
}
