//! The tables' versions. Each has a file for either database.

use std::borrow::Cow;

use sqlx::migrate::{Migration as SqlxMigration, MigrationType, Migrator};

use crate::OpenError;

/// A migration: the name of its file, which begins with its number, and its text.
pub(super) type Migration = (&'static str, &'static str);

macro_rules! migrations {
    ($database:literal) => {
        migrations!(
            $database,
            "0001_first",
            "0002_accounts",
            "0003_rooms",
            "0004_talk",
            "0005_sync",
            "0006_push",
            "0007_keys",
            "0008_thread_subscriptions",
            "0009_user_directory",
            "0010_notified_everyone",
            "0011_filters",
            "0012_set_aside",
            "0013_dehydrated_devices",
            "0014_media",
            "0015_sticky_events",
            "0016_services",
            "0017_pushers",
            "0018_log_gaps",
            "0019_to_device_position",
            "0020_push_counts",
            "0021_soft_failed",
            "0022_push_notes",
            "0023_partial_states",
            "0024_unverified_state",
            "0025_members_known_early",
            "0026_states_since",
        )
    };
    ($database:literal, $($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("../../migrations/", $database, "/", $file, ".sql")))),+]
    };
}

pub(super) const SQLITE: &[Migration] = migrations!("sqlite");
pub(super) const POSTGRES: &[Migration] = migrations!("postgres");

/// The version of the tables that are there.
pub(super) const NEWEST: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";

pub(super) fn check_version(newest: Result<i64, sqlx::Error>, migrations: &[Migration]) -> Result<(), OpenError> {
    let (found, expected) = (newest.map_err(OpenError::Connect)?, migrations.len() as i64);
    if found == expected { Ok(()) } else { Err(OpenError::OtherTables { found, expected }) }
}

pub(super) fn migrator(migrations: &[Migration]) -> Migrator {
    let migration = |((file, text), version): (&Migration, i64)| {
        let name = file.split_once('_').map_or(*file, |(_, name)| name);
        let text = sqlx::SqlSafeStr::into_sql_str(*text);
        SqlxMigration::new(version, Cow::Borrowed(name), MigrationType::Simple, text, false)
    };
    Migrator::with_migrations(migrations.iter().zip(1..).map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::{Migration, POSTGRES, SQLITE};

    fn assert_whole(migrations: &[Migration], folder: &str) {
        let folder = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.collect();
        files.sort();
        let listed: Vec<String> = migrations.iter().map(|(file, _)| format!("{file}.sql")).collect();
        assert_eq!(listed, files);
    }

    #[test]
    fn every_migration_is_run() {
        assert_whole(SQLITE, "sqlite");
        assert_whole(POSTGRES, "postgres");
    }

    #[test]
    fn migrations_count_up() {
        for ((file, _), expected) in SQLITE.iter().zip(1..) {
            let number = file.split_once('_').and_then(|(number, _)| number.parse().ok());
            assert_eq!(number, Some(expected), "migration {file}: two share a number, or one is left out");
        }
    }
}
