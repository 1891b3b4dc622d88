//! What a server does not start with: a database that would lose what was acknowledged, that is damaged, or that is not
//! there though it was.

use std::{fs, io::Write as _, path::PathBuf, process::Command};

use complement_tests_faults::{Client, Database, Server, server::free_port};

/// Damages the file of a stopped server from one byte on.
fn damage(database: &Database, from: usize) {
    let path = database.data_dir().join("nudge.db");
    let mut bytes = fs::read(&path).unwrap();
    for byte in bytes.iter_mut().skip(from).take(4_096) {
        *byte ^= 0x55;
    }
    fs::File::options().write(true).open(path).unwrap().write_all(&bytes).unwrap();
}

async fn used_database(port: u16) -> Database {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = Database::sqlite();
    let server = Server::start(&database, port).await;
    let alice = Client::register(&server.base_url, "alice").await;
    let room_id = alice.create_room().await;
    alice.send(&room_id, "one", "one").await.unwrap();
    server.stop().await;
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_10_a_damaged_database_is_refused() {
    let port = free_port();
    // The head of the file, and the page that says which tables there are.
    for from in [0, 100] {
        let database = used_database(port).await;
        damage(&database, from);
        let log = Server::spawn(&database, port, &[]).refuses(&database).await;
        assert!(log.contains("database"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_10_a_database_that_is_gone_is_not_made_anew() {
    let port = free_port();
    let database = used_database(port).await;
    let (file, elsewhere) = (database.data_dir().join("nudge.db"), database.data_dir().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    let log = Server::spawn(&database, port, &[]).refuses(&database).await;
    assert!(log.contains("nudge.db") && log.contains("missing"), "{log}");
    assert!(!file.exists());
    fs::rename(&elsewhere, &file).unwrap();
    Server::start(&database, port).await.stop().await;
    Server::check(&database).await;
}

/// A PostgreSQL cluster of its own, which keeps nothing through a loss of power.
struct ForgetfulCluster {
    folder: PathBuf,
    url: String,
}

fn cluster_script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../postgres.sh")
}

impl ForgetfulCluster {
    /// `None` where PostgreSQL is not installed.
    fn start() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("nudge-forgetful-{}", std::process::id()));
        let mut command = Command::new(cluster_script());
        let started = command.arg("start").arg(&folder).arg(free_port().to_string()).env("PG_FSYNC", "off").output();
        let started = started.ok().filter(|output| output.status.success())?;
        let url = String::from_utf8(started.stdout).ok()?.trim().to_owned();
        Some(Self { folder, url })
    }
}

impl Drop for ForgetfulCluster {
    fn drop(&mut self) {
        let _ = Command::new(cluster_script()).arg("stop").arg(&self.folder).output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_03_a_database_that_would_lose_what_was_acknowledged_is_refused_unless_that_is_asked_for() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(cluster) = ForgetfulCluster::start() else {
        eprintln!("skipped: PostgreSQL is not installed");
        return;
    };
    let (database, port) = (Database::at(&cluster.url), free_port());
    let log = Server::spawn(&database, port, &[]).refuses(&database).await;
    assert!(log.contains("fsync"), "{log}");
    let server = Server::start_with(&database, port, &[("NUDGE_DATABASE__DURABILITY", "relaxed")]).await;
    Client::register(&server.base_url, "alice").await;
    server.stop().await;
}
