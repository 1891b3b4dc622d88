//! What lies in the data folder must fit together.

use std::fs;

use homeserver_server::{
    configuration::{Configuration, Sources, load},
    data_directory::{DataDirectory, DataDirectoryError, Use},
    world,
};
use tempfile::TempDir;

fn configuration(directory: &TempDir, server_name: &str) -> Configuration {
    let data_dir = directory.path().join("data").display().to_string();
    let flags = vec![("data_dir", data_dir), ("server_name", server_name.to_owned())];
    load(&Sources { flags, ..Sources::default() }).unwrap().configuration
}

fn open(configuration: &Configuration, how: Use) -> Result<DataDirectory, DataDirectoryError> {
    DataDirectory::open(configuration, &world::system(), how)
}

#[test]
fn the_key_is_made_once() {
    let directory = TempDir::new().unwrap();
    let configuration = configuration(&directory, "a.example");
    let first = open(&configuration, Use::Serving).unwrap().signing_key(&configuration).unwrap();
    let second = open(&configuration, Use::Serving).unwrap().signing_key(&configuration).unwrap();
    assert_eq!(first.public_key(), second.public_key());
}

#[test]
fn a_lost_key_is_never_replaced_silently() {
    let directory = TempDir::new().unwrap();
    let configuration = configuration(&directory, "a.example");
    drop(open(&configuration, Use::Serving).unwrap());
    let data = directory.path().join("data");
    fs::remove_file(data.join("signing.key")).unwrap();
    assert!(matches!(open(&configuration, Use::Serving), Err(DataDirectoryError::KeyMissing { .. })));
    fs::remove_file(data.join("server_name")).unwrap();
    fs::write(data.join("nudge.db"), "a database").unwrap();
    let error = open(&configuration, Use::Serving).unwrap_err();
    assert!(matches!(error, DataDirectoryError::KeyMissing { .. }), "{error}");
    assert!(!data.join("signing.key").exists());
}

#[test]
fn a_new_key_is_taken_back_when_the_database_turns_out_to_hold_data() {
    let directory = TempDir::new().unwrap();
    let configuration = configuration(&directory, "a.example");
    let opened = open(&configuration, Use::Serving).unwrap();
    assert!(matches!(opened.database_holds_data(), Err(DataDirectoryError::KeyMissing { .. })));
    assert!(!directory.path().join("data/signing.key").exists());
    drop(opened);
    drop(open(&configuration, Use::Serving).unwrap());
    assert!(open(&configuration, Use::Serving).unwrap().database_holds_data().is_ok());
}

#[test]
fn r_10_a_database_that_is_gone_is_not_made_anew() {
    let directory = TempDir::new().unwrap();
    let configuration = configuration(&directory, "a.example");
    let file = directory.path().join("data/nudge.db");
    let opened = open(&configuration, Use::Serving).unwrap();
    // Nothing was ever in it, which is no loss.
    opened.note_database(&configuration, false).unwrap();
    opened.note_database(&configuration, false).unwrap();
    fs::write(&file, "a database").unwrap();
    opened.note_database(&configuration, true).unwrap();
    let error = opened.note_database(&configuration, false).unwrap_err();
    assert!(matches!(error, DataDirectoryError::DatabaseMissing { .. }), "{error}");
    drop(opened);
    drop(open(&configuration, Use::Serving).unwrap());
    fs::remove_file(&file).unwrap();
    let error = open(&configuration, Use::Serving).unwrap_err();
    assert!(matches!(error, DataDirectoryError::DatabaseMissing { .. }), "{error}");
    fs::remove_file(directory.path().join("data/database")).unwrap();
    open(&configuration, Use::Serving).unwrap();
}

#[test]
fn data_of_another_server_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(open(&configuration(&directory, "a.example"), Use::Serving).unwrap());
    let error = open(&configuration(&directory, "b.example"), Use::Serving).unwrap_err().to_string();
    assert!(error.contains("a.example") && error.contains("b.example"), "{error}");
}

#[test]
fn only_one_process_serves() {
    let directory = TempDir::new().unwrap();
    let configuration = configuration(&directory, "a.example");
    let serving = open(&configuration, Use::Serving).unwrap();
    assert!(matches!(open(&configuration, Use::Serving), Err(DataDirectoryError::InUse(_))));
    assert!(open(&configuration, Use::Beside).is_ok());
    drop(serving);
    assert!(open(&configuration, Use::Serving).is_ok());
}
