//! The rules for the key file.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use homeserver_server::{
    signing_key::{SigningKeyError, create, read},
    world,
};
use ruma::owned_server_name;
use tempfile::TempDir;

fn outcome(content: &str, mode: u32) -> Result<String, SigningKeyError> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("signing.key");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    read(&path, owned_server_name!("example.org")).map(|key| key.key_id().to_string())
}

#[test]
fn s_010_a_key_of_wrong_form_or_no_chance_is_refused() {
    const GOOD: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
    assert_eq!(outcome(&format!("ed25519 a_1 {GOOD}\n"), 0o600).unwrap(), "ed25519:a_1");
    assert_eq!(outcome(&format!("ed25519 a_1 {GOOD}=\n"), 0o400).unwrap(), "ed25519:a_1");
    let all_equal = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    let example = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
    for wrong in [
        String::new(),
        "ed25519 a_1".to_owned(),
        format!("ed448 a_1 {GOOD}"),
        format!("ed25519 a_1 {GOOD} more"),
        format!("ed25519 a_1 {}", &GOOD[..GOOD.len() - 4]),
        format!("ed25519 a_1 AAAA{GOOD}"),
        "ed25519 a_1 ?".to_owned(),
        format!("ed25519 a-1 {GOOD}"),
        format!("ed25519 a_1 {all_equal}"),
        format!("ed25519 1 {example}"),
    ] {
        let error = outcome(&wrong, 0o600).unwrap_err().to_string();
        assert!(error.contains("signing.key"), "{error}");
        assert!(!error.contains(GOOD) && !error.contains(all_equal), "the key is shown: {error}");
    }
}

#[test]
fn s_010_two_fresh_installs_differ() {
    let directory = TempDir::new().unwrap();
    let keys = ["one", "two"].map(|name| {
        let path = directory.path().join(name);
        create(&path, &world::system()).unwrap();
        read(&path, owned_server_name!("example.org")).unwrap()
    });
    assert_ne!(keys[0].public_key(), keys[1].public_key());
    assert_ne!(keys[0].key_id(), keys[1].key_id());
}

#[test]
fn s_017_nobody_else_may_read_the_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("signing.key");
    create(&path, &world::system()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o644, 0o660, 0o700] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = read(&path, owned_server_name!("example.org")).unwrap_err();
        assert!(matches!(error, SigningKeyError::Mode { .. }), "{mode:o}: {error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
