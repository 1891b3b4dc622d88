//! The file with the key that this server signs with: `ed25519 NAME SEED`, the form in which other homeservers keep
//! theirs, so that a key can be taken along.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rules::{
    event::{KeyError, ServerKey},
    world::World,
};
use ruma::{OwnedServerName, serde::Base64};

/// Only the owner may read or write.
const MODE: u32 = 0o600;

/// Seeds that are public, because they stand in the specification or in its tests.
const EXAMPLE_SEEDS: &[&str] = &["YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The file cannot be read or written.
    #[error("the signing key {path:?}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        error: io::Error,
    },
    /// Others can read the file.
    #[error("the signing key {path:?} has mode {mode:04o}, so others could read it; run: chmod 600 {path:?}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error(
        "the signing key {path:?} is not understood: {reason}; it should be one line `ed25519 NAME SEED`, where SEED is \
         32 bytes in Base64; restore it from a backup"
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Everybody knows the key.
    #[error(
        "the signing key {path:?} is one from an example, so anybody can sign as this server; restore the real one"
    )]
    Example {
        /// The file.
        path: PathBuf,
    },
    /// The key is no key.
    #[error("the signing key {path:?}: {error}; restore it from a backup")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: KeyError,
    },
}

/// Reads the key file.
pub fn read(path: &Path, server_name: OwnedServerName) -> Result<ServerKey, SigningKeyError> {
    let io_error = |error| SigningKeyError::Io { path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(io_error)?.permissions().mode() & 0o7777;
    if mode & !MODE != 0 {
        return Err(SigningKeyError::Mode { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(io_error)?;
    let form_error = |reason| SigningKeyError::Form { path: path.to_owned(), reason };
    let mut words = text.split_whitespace();
    let (Some("ed25519"), Some(name), Some(seed), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(form_error("it does not consist of `ed25519` and two more words"));
    };
    if EXAMPLE_SEEDS.contains(&seed.trim_end_matches('=')) {
        return Err(SigningKeyError::Example { path: path.to_owned() });
    }
    let seed: Base64 = Base64::parse(seed).map_err(|_| form_error("the seed is not Base64"))?;
    let seed: &[u8; 32] = seed.as_bytes().try_into().map_err(|_| form_error("the seed is not 32 bytes long"))?;
    ServerKey::from_seed(server_name, name, seed).map_err(|error| SigningKeyError::Key { path: path.to_owned(), error })
}

/// Makes a new key. The file appears with all of its content or not at all.
pub fn create(path: &Path, world: &World) -> Result<(), SigningKeyError> {
    let mut seed = [0_u8; 32];
    world.chance.fill(&mut seed);
    // The name is random, so that a key that replaces a lost one is never taken for it.
    let line = format!(
        "ed25519 a_{} {}\n",
        world.random_string(4),
        Base64::<ruma::serde::base64::Standard>::new(seed.to_vec())
    );
    write_whole(path, line.as_bytes()).map_err(|error| SigningKeyError::Io { path: path.to_owned(), error })
}

/// Writes a file that only the owner may read, through a temporary one, down to the disk.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary)?;
    // The mode above only counts for a file that did not exist.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}
