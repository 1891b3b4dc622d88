//! The folder with what must never be lost or mixed up: the signing key, the name of the server, and by
//! default the database.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rules::{event::ServerKey, world::World};
use ruma::ServerName;

use crate::{
    configuration::Configuration,
    signing_key::{self, SigningKeyError, write_whole},
};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// Something in it cannot be read or written.
    #[error("data_dir: {path:?}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        error: io::Error,
    },
    /// Another process serves from it.
    #[error("data_dir = {0:?} is in use by another nudge; stop it first, or choose another data_dir")]
    InUse(PathBuf),
    /// The database belongs to a server with another name.
    #[error(
        "server_name = {configured:?}, but the data in {path:?} belongs to {stored:?}; the name of a server can never be \
         changed: set server_name back, or choose another data_dir"
    )]
    OtherServer {
        /// The folder.
        path: PathBuf,
        /// The name in the configuration.
        configured: String,
        /// The name that the data belongs to.
        stored: String,
    },
    /// There is data, but no key.
    #[error(
        "the signing key {key:?} is missing, but there is data ({evidence}); other servers would not believe a new key: \
         restore it from a backup"
    )]
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
        /// Why we know that there was one.
        evidence: String,
    },
    /// There is no database, or nothing in it, but there was.
    #[error(
        "the database {database} is missing or empty, but this server has had one; restore it from a backup, or, to begin \
         anew without accounts and rooms, remove {marker:?}"
    )]
    DatabaseMissing {
        /// Where the database should be, without a password.
        database: String,
        /// How we know that there was one.
        marker: PathBuf,
    },
    /// The key cannot be used.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
}

/// What is noted of the database: that it was made, and that there was something in it.
const DATABASE_MADE: &str = "made\n";
const DATABASE_USED: &str = "used\n";

/// The folder, opened.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    key_is_new: bool,
    /// Holds the lock on the folder, where it was asked for.
    _lock: Option<File>,
}

/// Whether other processes may use the folder at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Only one process serves.
    Serving,
    /// A command that does its work beside a server.
    Beside,
}

impl DataDirectory {
    /// Opens the folder, makes it and the key at the first start, and checks that nothing is missing or mixed up.
    pub fn open(configuration: &Configuration, world: &World, how: Use) -> Result<Self, DataDirectoryError> {
        let path = configuration.data_dir.clone();
        let io_error = |error| DataDirectoryError::Io { path: path.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error)?;
        let lock = if how == Use::Serving { Some(lock(&path)?) } else { None };
        let mut directory = Self { path, key_is_new: false, _lock: lock };
        directory.check_server_name(&configuration.server_name)?;
        directory.check_database_file(configuration)?;
        directory.make_key_at_first_start(configuration, world)?;
        directory.write_server_name(&configuration.server_name)?;
        Ok(directory)
    }

    /// The key to sign with.
    pub fn signing_key(&self, configuration: &Configuration) -> Result<ServerKey, DataDirectoryError> {
        Ok(signing_key::read(&self.key_path(), configuration.server_name.clone())?)
    }

    /// To be called when the database turns out to hold data: a key that was made just now cannot be the right one.
    pub fn database_holds_data(&self) -> Result<(), DataDirectoryError> {
        if !self.key_is_new {
            return Ok(());
        }
        // Left in place, it would be taken for the right one at the next start.
        for path in [self.key_path(), self.server_name_path()] {
            fs::remove_file(&path).map_err(|error| DataDirectoryError::Io { path, error })?;
        }
        let evidence = "the database is not empty".to_owned();
        Err(DataDirectoryError::KeyMissing { key: self.key_path(), evidence })
    }

    /// To be called when the database is open: once there was one, an empty one in its place is never taken for it.
    pub fn note_database(&self, configuration: &Configuration, holds_data: bool) -> Result<(), DataDirectoryError> {
        let marker = self.database_marker();
        let noted = fs::read_to_string(&marker).unwrap_or_default();
        if !holds_data && noted == DATABASE_USED {
            return Err(self.database_missing(configuration));
        }
        let note = if holds_data { DATABASE_USED } else { DATABASE_MADE };
        if noted == note {
            return Ok(());
        }
        write_whole(&marker, note.as_bytes()).map_err(|error| DataDirectoryError::Io { path: marker, error })
    }

    /// A file in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn key_path(&self) -> PathBuf {
        self.join("signing.key")
    }

    fn server_name_path(&self) -> PathBuf {
        self.join("server_name")
    }

    fn database_marker(&self) -> PathBuf {
        self.join("database")
    }

    fn database_missing(&self, configuration: &Configuration) -> DataDirectoryError {
        let (database, marker) = (configuration.database().to_string(), self.database_marker());
        DataDirectoryError::DatabaseMissing { database, marker }
    }

    /// Before anything could make the file anew.
    fn check_database_file(&self, configuration: &Configuration) -> Result<(), DataDirectoryError> {
        let is_missing = configuration.database().sqlite_file().is_some_and(|file| !file.exists());
        if is_missing && self.database_marker().exists() {
            return Err(self.database_missing(configuration));
        }
        Ok(())
    }

    fn check_server_name(&self, configured: &ServerName) -> Result<(), DataDirectoryError> {
        let path = self.server_name_path();
        let stored = match fs::read_to_string(&path) {
            Ok(stored) => stored.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(DataDirectoryError::Io { path, error }),
        };
        if stored == configured.as_str() {
            return Ok(());
        }
        Err(DataDirectoryError::OtherServer { path: self.path.clone(), configured: configured.to_string(), stored })
    }

    fn make_key_at_first_start(
        &mut self,
        configuration: &Configuration,
        world: &World,
    ) -> Result<(), DataDirectoryError> {
        let key = self.key_path();
        if key.exists() {
            return Ok(());
        }
        let evidence = [Some(self.server_name_path()), configuration.database().sqlite_file()];
        if let Some(found) = evidence.into_iter().flatten().find(|path| path.exists()) {
            return Err(DataDirectoryError::KeyMissing { key, evidence: format!("{} exists", found.display()) });
        }
        signing_key::create(&key, world)?;
        self.key_is_new = true;
        Ok(())
    }

    fn write_server_name(&self, server_name: &ServerName) -> Result<(), DataDirectoryError> {
        let path = self.server_name_path();
        if path.exists() {
            return Ok(());
        }
        write_whole(&path, format!("{server_name}\n").as_bytes())
            .map_err(|error| DataDirectoryError::Io { path, error })
    }
}

/// Makes the folder, and sees that no server runs from it as long as the file is held.
pub(crate) fn make_and_lock(path: &Path) -> Result<File, DataDirectoryError> {
    let io_error = |error| DataDirectoryError::Io { path: path.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error)?;
    lock(path)
}

fn lock(directory: &Path) -> Result<File, DataDirectoryError> {
    let path = directory.join("lock");
    let io_error = |error| DataDirectoryError::Io { path: path.clone(), error };
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirectoryError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error(error)),
    }
}
