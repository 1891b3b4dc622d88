//! A store in one file: a journal of batches.
//!
//! A batch is appended and synced before [`FileStore::apply`] returns. A batch that was being written when the process
//! died is recognised by its checksum and cut off. When most of the file is out of date, it is written anew beside it
//! and put in its place. One process at a time may have the file open.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rules::world::World;
use sha2::{Digest, Sha256};

use super::{Batch, Change, Record, Store, Table};

/// What the file begins with: a name and a version of the format.
const MAGIC: &[u8; 8] = b"e2eefil1";

/// Length of the salt for passphrases, in bytes.
const SALT_LENGTH: usize = 16;

/// Where the first batch begins.
const HEADER_LENGTH: u64 = (MAGIC.len() + SALT_LENGTH) as u64;

/// The file is written anew when it is this many times as large as what it holds, and at least [`REWRITE_MIN`] bytes.
const REWRITE_FACTOR: u64 = 4;

/// Smaller files are not worth writing anew, in bytes.
const REWRITE_MIN: u64 = 1024 * 1024;

/// Largest batch that is believed when reading, in bytes.
const BATCH_MAX: u32 = 256 * 1024 * 1024;

/// Records in one file.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: File,
    length: u64,
    salt: [u8; SALT_LENGTH],
    /// When the file reaches this length, how much of it is out of date is looked at.
    rewrite_at: u64,
    records: BTreeMap<(Table, String), Vec<u8>>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// Reading or writing failed.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// It is something else.
    #[error("{0} is not a store of this version")]
    NotAStore(PathBuf),
}

impl FileStore {
    /// Opens the file, or makes it.
    pub fn open(path: &Path, world: &World) -> Result<Self, FileStoreError> {
        let failed = |error| FileStoreError::Io { path: path.to_owned(), error };
        let mut file = private().read(true).open(path).map_err(failed)?;
        file.try_lock().map_err(|_| FileStoreError::InUse(path.to_owned()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let salt = if bytes.len() < HEADER_LENGTH as usize && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())])
        {
            let salt = new_salt(world);
            bytes = [MAGIC.as_slice(), &salt].concat();
            write_all(&mut file, &bytes).map_err(failed)?;
            salt
        } else {
            let (magic, salt) = bytes.split_first_chunk().ok_or_else(|| FileStoreError::NotAStore(path.to_owned()))?;
            if magic != MAGIC {
                return Err(FileStoreError::NotAStore(path.to_owned()));
            }
            *salt.first_chunk().ok_or_else(|| FileStoreError::NotAStore(path.to_owned()))?
        };
        let mut store = Self {
            path: path.to_owned(),
            file,
            length: HEADER_LENGTH,
            salt,
            rewrite_at: REWRITE_MIN,
            records: BTreeMap::new(),
        };
        store.replay(&bytes[HEADER_LENGTH as usize..]);
        store.file.set_len(store.length).map_err(failed)?;
        store.file.seek(SeekFrom::Start(store.length)).map_err(failed)?;
        Ok(store)
    }

    /// The salt of this file, to stretch a passphrase with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Takes in whole batches, and stops at the first that is not.
    fn replay(&mut self, mut bytes: &[u8]) {
        while let Some((batch, rest)) = read_batch(bytes) {
            self.length += (bytes.len() - rest.len()) as u64;
            bytes = rest;
            self.take(batch);
        }
    }

    fn take(&mut self, batch: Batch) {
        for Change { table, key, bytes } in batch.changes {
            match bytes {
                Some(bytes) => self.records.insert((table, key), bytes),
                None => self.records.remove(&(table, key)),
            };
        }
    }

    /// Writes a file with what is current only, and puts it in the place of the old one.
    fn rewrite(&mut self) -> std::io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = private().truncate(true).open(&beside)?;
        file.try_lock().map_err(std::io::Error::other)?;
        let change = |((table, key), bytes): (&(Table, String), &Vec<u8>)| Change {
            table: *table,
            key: key.clone(),
            bytes: Some(bytes.clone()),
        };
        let batch = Batch { changes: self.records.iter().map(change).collect() };
        let bytes = [MAGIC.as_slice(), &self.salt, &written_batch(&batch)].concat();
        write_all(&mut file, &bytes)?;
        std::fs::rename(&beside, &self.path)?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        self.file = file;
        self.length = bytes.len() as u64;
        Ok(())
    }

    fn append(&mut self, batch: &Batch) -> std::io::Result<()> {
        let bytes = written_batch(batch);
        if let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // What was half written must not stand before the next batch.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.take(batch.clone());
        if self.length < self.rewrite_at {
            return Ok(());
        }
        let current: u64 = self.records.iter().map(|((_, key), bytes)| (key.len() + bytes.len()) as u64).sum();
        self.rewrite_at = current.saturating_mul(REWRITE_FACTOR).max(REWRITE_MIN);
        if self.length >= self.rewrite_at { self.rewrite() } else { Ok(()) }
    }
}

impl Store for FileStore {
    type Error = FileStoreError;

    fn apply(&mut self, batch: &Batch) -> Result<(), FileStoreError> {
        self.append(batch).map_err(|error| FileStoreError::Io { path: self.path.clone(), error })
    }

    fn records(&self) -> Result<Vec<Record>, FileStoreError> {
        let record = |((table, key), bytes): (&(Table, String), &Vec<u8>)| Record {
            table: *table,
            key: key.clone(),
            bytes: bytes.clone(),
        };
        Ok(self.records.iter().map(record).collect())
    }
}

/// Options that make a file which nobody but its owner reads.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn new_salt(world: &World) -> [u8; SALT_LENGTH] {
    let mut salt = [0_u8; SALT_LENGTH];
    world.chance.fill(&mut salt);
    salt
}

fn write_all(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Length, first 8 bytes of SHA-256, changes.
fn written_batch(batch: &Batch) -> Vec<u8> {
    let mut body = Vec::new();
    for change in &batch.changes {
        put(&mut body, change.table.name().as_bytes());
        put(&mut body, change.key.as_bytes());
        body.push(u8::from(change.bytes.is_some()));
        put(&mut body, change.bytes.as_deref().unwrap_or_default());
    }
    let length = (body.len() as u32).to_le_bytes();
    [length.as_slice(), &Sha256::digest(&body)[..8], &body].concat()
}

fn put(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    body.extend_from_slice(bytes);
}

fn read_batch(bytes: &[u8]) -> Option<(Batch, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<8>()?;
    let length = Some(u32::from_le_bytes(*length)).filter(|length| *length <= BATCH_MAX)?;
    let (mut body, rest) = rest.split_at_checked(length as usize)?;
    if Sha256::digest(body)[..8] != *checksum {
        return None;
    }
    let mut changes = Vec::new();
    while !body.is_empty() {
        let table = Table::named(std::str::from_utf8(take(&mut body)?).ok()?)?;
        let key = String::from_utf8(take(&mut body)?.to_vec()).ok()?;
        let (kept, after) = body.split_first()?;
        body = after;
        let bytes = take(&mut body)?.to_vec();
        changes.push(Change { table, key, bytes: (*kept == 1).then_some(bytes) });
    }
    Some((Batch { changes }, rest))
}

fn take<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let (taken, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *body = rest;
    Some(taken)
}
