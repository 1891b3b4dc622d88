//! Copies of everything that a server cannot be made again without: the database, the signing key, the name of the
//! server, the configuration file, and the files that users uploaded.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use media::{BlobId, BlobStore, Files};
use rules::world::World;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storage::{CopyError, Storage, StorageError};

use crate::signing_key::write_whole;

/// The form of backups that this version writes and reads.
const FORMAT: u32 = 1;
/// How many files are looked for in one go.
const BATCH: usize = 500;

const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "nudge.db";
const SIGNING_KEY: &str = "signing.key";
const SERVER_NAME: &str = "server_name";
const CONFIGURATION: &str = "nudge.toml";
const MEDIA: &str = "media";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A file cannot be read or written.
    #[error("{path:?}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The folder holds something that is no backup.
    #[error("{0:?} is not empty and holds no backup; name another folder, or an earlier backup to bring up to date")]
    Foreign(PathBuf),
    /// The manifest cannot be read.
    #[error("{path:?} is no manifest of a backup: {reason}")]
    Manifest {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file is not the one that was written.
    #[error("{0:?} is not the file that was written when the backup was made")]
    Damaged(PathBuf),
    /// There is something where the backup would go.
    #[error("{0:?} exists; a backup is restored only where nothing is")]
    Exists(PathBuf),
    /// The backup is of another server.
    #[error("the backup is of {backup}, but server_name = {configured:?}")]
    OtherServer {
        /// Whose it is.
        backup: OwnedServerName,
        /// Who we are.
        configured: OwnedServerName,
    },
    /// The database cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The database cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

type Result<T, E = BackupError> = std::result::Result<T, E>;

/// What a backup consists of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The version of the server that made it.
    nudge: String,
    /// Whose it is.
    pub(crate) server_name: OwnedServerName,
    /// When it was begun, in milliseconds since 1970.
    made_ts: u64,
    database: DatabaseCopy,
    /// Absent where the files lie in object storage.
    pub(crate) media: Option<MediaCopy>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DatabaseCopy {
    bytes: u64,
    sha256: String,
}

/// The files that users uploaded, and those of other servers that are kept.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MediaCopy {
    /// How many.
    pub(crate) files: u64,
    /// How large they are together, in bytes.
    pub(crate) bytes: u64,
}

/// Of what a backup is made.
pub(crate) struct Originals<'a> {
    pub(crate) server_name: &'a OwnedServerName,
    pub(crate) data_dir: &'a Path,
    pub(crate) configuration_file: Option<&'a Path>,
    pub(crate) storage: &'a Storage,
    pub(crate) store: &'a dyn BlobStore,
}

/// Makes a backup in a folder, or brings an earlier one there up to date. The server may be running.
pub(crate) async fn make(from: &Originals<'_>, folder: &Path, world: &World) -> Result<Manifest> {
    let made_ts = world.clock.now().get().into();
    prepare_folder(folder)?;
    // Before the database, for what is deleted meanwhile, and after it, for what is uploaded meanwhile.
    copy_media(from, folder).await?;
    let (database, unfinished) = (folder.join(DATABASE), folder.join("nudge.db.new"));
    remove(&unfinished)?;
    File::options().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(at(&unfinished))?;
    from.storage.copy_to_file(&unfinished).await?;
    finish_file(&unfinished)?;
    let sha256 = hash(&unfinished)?;
    let bytes = fs::metadata(&unfinished).map_err(at(&unfinished))?.len();
    let media = copy_media(from, folder).await?;
    for name in [SIGNING_KEY, SERVER_NAME] {
        copy(&from.data_dir.join(name), &folder.join(name))?;
    }
    if let Some(file) = from.configuration_file {
        copy(file, &folder.join(CONFIGURATION))?;
    }
    // From here on, the folder holds no backup until the new manifest is written.
    remove(&folder.join(MANIFEST))?;
    fs::rename(&unfinished, &database).map_err(at(&database))?;
    let manifest = Manifest {
        format: FORMAT,
        nudge: env!("CARGO_PKG_VERSION").to_owned(),
        server_name: from.server_name.clone(),
        made_ts,
        database: DatabaseCopy { bytes, sha256 },
        media,
    };
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| at(&path)(error.into()))?;
    write_whole(&path, &text).map_err(at(&path))?;
    Ok(manifest)
}

/// Reads the manifest of a backup, and checks that its database is the one that was written.
pub(crate) fn check(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(at(&path))?;
    let refuse = |reason: String| BackupError::Manifest { path: path.clone(), reason };
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(refuse(format!("it is of form {}, this version reads form {FORMAT}", manifest.format)));
    }
    let database = folder.join(DATABASE);
    if hash(&database)? != manifest.database.sha256 {
        return Err(BackupError::Damaged(database));
    }
    Ok(manifest)
}

/// Where a backup goes.
pub(crate) struct Target<'a> {
    pub(crate) server_name: &'a OwnedServerName,
    pub(crate) data_dir: &'a Path,
    /// An empty database.
    pub(crate) storage: &'a Storage,
    /// Where blobs lie, if they lie in files.
    pub(crate) blobs: Option<&'a Path>,
}

/// Whether nothing is where a backup would go.
pub(crate) fn check_target(data_dir: &Path) -> Result<()> {
    match [SIGNING_KEY, SERVER_NAME].map(|name| data_dir.join(name)).into_iter().find(|path| path.exists()) {
        Some(path) => Err(BackupError::Exists(path)),
        None => Ok(()),
    }
}

/// Puts a backup that was checked where a server can be started from it. The name of the server comes last: without it
/// the server does not start on what is half there.
pub(crate) async fn restore(folder: &Path, manifest: &Manifest, to: &Target<'_>) -> Result<()> {
    if manifest.server_name != *to.server_name {
        let (backup, configured) = (manifest.server_name.clone(), to.server_name.clone());
        return Err(BackupError::OtherServer { backup, configured });
    }
    if let (Some(_), Some(blobs)) = (manifest.media, to.blobs) {
        restore_media(&folder.join(MEDIA), blobs)?;
    }
    // The copy may be older than this version: it is brought up to date beside the backup, which stays as it is.
    let scratch = to.data_dir.join("restoring.db");
    remove(&scratch)?;
    copy(&folder.join(DATABASE), &scratch)?;
    to.storage.restore(&scratch).await?;
    remove(&scratch)?;
    for name in [SIGNING_KEY, SERVER_NAME] {
        copy(&folder.join(name), &to.data_dir.join(name))?;
    }
    Ok(())
}

/// Makes the folder, or sees that it holds an earlier backup.
fn prepare_folder(folder: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    let is_empty = fs::read_dir(folder).map_err(at(folder))?.next().is_none();
    let is_ours = [MANIFEST, MEDIA, "nudge.db.new"].iter().any(|name| folder.join(name).exists());
    if !is_empty && !is_ours {
        return Err(BackupError::Foreign(folder.to_owned()));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(at(folder))
}

/// Copies the files that are not there yet. `None` where they do not lie in files.
async fn copy_media(from: &Originals<'_>, folder: &Path) -> Result<Option<MediaCopy>> {
    let (mut copied, mut after) = (MediaCopy::default(), String::new());
    let to = folder.join(MEDIA);
    DirBuilder::new().recursive(true).mode(0o700).create(&to).map_err(at(&to))?;
    let places = Files::new(to);
    loop {
        let blobs = from.storage.blobs(&after, BATCH).await?;
        let Some(last) = blobs.last() else { return Ok(Some(copied)) };
        after.clone_from(&last.sha256);
        for blob_id in blobs.iter().filter_map(|blob| BlobId::parse(&blob.sha256)) {
            let (Some(path), Some(place)) = (from.store.file(&blob_id), places.file(&blob_id)) else { return Ok(None) };
            // Whoever deletes one while this goes on wins.
            if let Some(bytes) = place_blob(&path, &place)? {
                copied.files += 1;
                copied.bytes += bytes;
            }
        }
    }
}

fn restore_media(from: &Path, to: &Path) -> Result<()> {
    let to = Files::new(to.to_owned());
    for outer in list(from)? {
        for inner in list(&outer)? {
            for blob in list(&inner)? {
                let blob_id = blob.file_name().and_then(|name| name.to_str()).and_then(BlobId::parse);
                if let Some(place) = blob_id.and_then(|blob_id| to.file(&blob_id)) {
                    place_blob(&blob, &place)?;
                }
            }
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(at(folder))).collect()
}

/// A file that never changes, at another place: the same one where the file system allows it, else a copy. Its size,
/// unless it is gone.
fn place_blob(from: &Path, to: &Path) -> Result<Option<u64>> {
    let size = match fs::metadata(from) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(from)(error)),
    };
    if fs::metadata(to).is_ok_and(|there| there.len() == size) {
        return Ok(Some(size));
    }
    if let Some(folder) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
    }
    remove(to)?;
    if fs::hard_link(from, to).is_err() {
        copy(from, to)?;
    }
    Ok(Some(size))
}

/// Copies a file that only the owner may read, down to the disk.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let unfinished = to.with_added_extension("new");
    fs::copy(from, &unfinished).map_err(at(from))?;
    finish_file(&unfinished)?;
    fs::rename(&unfinished, to).map_err(at(to))
}

fn finish_file(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(at(path))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// The SHA-256 of a file, in hexadecimal.
fn hash(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).map_err(at(path))? {
            0 => break,
            read => hasher.update(&piece[..read]),
        }
    }
    Ok(hasher.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::Io { path, error }
}
