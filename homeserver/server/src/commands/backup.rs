//! `nudge backup` and `nudge restore`.

use std::{path::Path, process::ExitCode};

use super::{Outcome, with_configuration};
use crate::{
    backup::{self, Originals, Target},
    configuration::Sources,
    data_directory, media, wiring, world,
};

pub(crate) fn make(sources: &Sources, folder: &Path) -> Outcome {
    let configuration_file = sources.file.clone();
    with_configuration(sources, async |loaded| {
        let configuration = &loaded.configuration;
        let database = configuration.database();
        if let Some(missing) = database.sqlite_file().filter(|file| !file.exists()) {
            return Err(format!("there is no database at {}", missing.display()).into());
        }
        let storage = wiring::open_storage_beside(configuration).await?;
        let store = wiring::open_store(configuration)?;
        let originals = Originals {
            server_name: &configuration.server_name,
            data_dir: &configuration.data_dir,
            configuration_file: configuration_file.as_deref(),
            storage: &storage,
            store: &*store,
        };
        let manifest = backup::make(&originals, folder, &world::system()).await?;
        storage.close().await;
        match manifest.media {
            Some(media) => println!("{} holds the database and {} files", folder.display(), media.files),
            None => println!("{} holds the database; the files stay in object storage", folder.display()),
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn restore(sources: &Sources, folder: &Path) -> Outcome {
    with_configuration(sources, async |loaded| {
        let configuration = &loaded.configuration;
        let manifest = backup::check(folder)?;
        backup::check_target(&configuration.data_dir)?;
        let _lock = data_directory::make_and_lock(&configuration.data_dir)?;
        let storage = wiring::open_storage(configuration).await?;
        let blobs = media::blobs_folder(configuration);
        let target = Target {
            server_name: &configuration.server_name,
            data_dir: &configuration.data_dir,
            storage: &storage,
            blobs: blobs.as_deref(),
        };
        backup::restore(folder, &manifest, &target).await?;
        storage.close().await;
        if manifest.media.is_some() && blobs.is_none() {
            println!("media.s3_bucket is set: put the files in {} there yourself", folder.join("media").display());
        }
        super::fsck::check(configuration).await
    })
}
