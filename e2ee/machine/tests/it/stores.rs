//! The store in a file, and the seal on its records.

use machine::{FileStore, FileStoreError, LoadError, Machine, Store, StoreKey};
use ruma::{device_id, user_id};

use crate::party::{key, world};

fn made(path: &std::path::Path) -> (Machine, FileStore) {
    let (world, _) = world();
    let mut store = FileStore::open(path, &world).unwrap();
    let machine = Machine::new(world, user_id!("@alice:example.org"), device_id!("PHONE"), &key());
    let machine = machine.store_in(&mut store).unwrap();
    (machine, store)
}

#[test]
fn a_machine_is_found_again_in_its_file_and_only_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine");
    let (machine, store) = made(&path);
    let (world, _) = world();
    assert!(matches!(FileStore::open(&path, &world), Err(FileStoreError::InUse(_))));
    drop(store);
    let store = FileStore::open(&path, &world).unwrap();
    let records = store.records().unwrap();
    let loaded = Machine::load(world.clone(), &records, &key()).unwrap();
    assert_eq!(loaded.ed25519_key(), machine.ed25519_key());
    let wrong = Machine::load(world.clone(), &records, &StoreKey::from_secret([1; 32]));
    assert!(matches!(wrong, Err(LoadError::Sealed("account"))));
    assert!(matches!(Machine::load(world, &[], &key()), Err(LoadError::NoAccount)));
    let bytes = std::fs::read(&path).unwrap();
    for word in ["alice", "PHONE", "curve25519"] {
        assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
    }
}

#[test]
fn a_batch_that_was_half_written_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine");
    let (mut machine, mut store) = made(&path);
    let before = store.records().unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    machine.requests().store_in(&mut store).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() as u64 > length);
    let (world, _) = world();
    for cut in [length + 1, length + 13, whole.len() as u64 - 1] {
        std::fs::write(&path, &whole[..cut as usize]).unwrap();
        let store = FileStore::open(&path, &world).unwrap();
        assert_eq!(store.records().unwrap(), before, "cut at {cut}");
        drop(store);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    }
    std::fs::write(&path, "something else altogether, and long enough").unwrap();
    assert!(matches!(FileStore::open(&path, &world), Err(FileStoreError::NotAStore(_))));
}

#[test]
fn a_file_does_not_grow_with_what_is_out_of_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("machine");
    let (_, mut store) = made(&path);
    let change = |byte: u8| machine::Change {
        table: machine::Table::Rooms,
        key: "same".to_owned(),
        bytes: Some(vec![byte; 100_000]),
    };
    for byte in 0..60 {
        store.apply(&machine::Batch { changes: vec![change(byte)] }).unwrap();
    }
    assert!(std::fs::metadata(&path).unwrap().len() < 2_000_000);
    let records = store.records().unwrap();
    drop(store);
    let (world, _) = world();
    let reopened = FileStore::open(&path, &world).unwrap();
    assert_eq!(reopened.records().unwrap(), records);
    assert!(records.iter().any(|record| record.bytes == vec![59; 100_000]));
}

#[test]
fn a_record_is_of_no_use_in_the_place_of_another() {
    let (world, _) = world();
    let mut store = machine::MemoryStore::default();
    let mut machine = Machine::new(world.clone(), user_id!("@alice:example.org"), device_id!("PHONE"), &key())
        .store_in(&mut store)
        .unwrap();
    machine.requests().store_in(&mut store).unwrap();
    let mut records = store.records().unwrap();
    let table = records[0].table;
    records[0].table = records[1].table;
    records[1].table = table;
    assert!(matches!(Machine::load(world, &records, &key()), Err(LoadError::Sealed(_))));
}

#[test]
fn a_passphrase_opens_what_it_sealed() {
    let salt = [3; 16];
    let (world, _) = world();
    let mut store = machine::MemoryStore::default();
    let sealed = StoreKey::from_passphrase("correct horse", &salt).unwrap();
    Machine::new(world.clone(), user_id!("@alice:example.org"), device_id!("PHONE"), &sealed)
        .store_in(&mut store)
        .unwrap();
    let records = store.records().unwrap();
    let same = StoreKey::from_passphrase("correct horse", &salt).unwrap();
    assert!(Machine::load(world.clone(), &records, &same).is_ok());
    let other = StoreKey::from_passphrase("correct horse", &[4; 16]).unwrap();
    assert!(Machine::load(world, &records, &other).is_err());
    assert!(StoreKey::from_passphrase("x", b"short").is_err());
}
