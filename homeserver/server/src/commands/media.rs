//! `nudge media`: files that users have uploaded, and those of other servers that are kept.
//!
//! What only marks files may run beside the server, which asks the database each time. What removes contents must not: the
//! server may be about to make something of the same content.

use std::{error::Error, process::ExitCode};

use engine::Engine;
use rules::world::World;
use ruma::{MxcUri, OwnedServerName, OwnedUserId, ServerName, UserId};
use storage::MediaRecord;

use super::{
    Outcome,
    user::{close_after, user_id},
    with_configuration,
};
use crate::{
    cli::MediaCommand,
    configuration::{Configuration, Sources},
    data_directory::Use,
    wiring::House,
    world,
};

/// Who has quarantined what the operator of the server has: nobody who registers can have this name.
const OPERATOR: &str = "_operator";
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

pub(crate) fn run(sources: &Sources, command: MediaCommand) -> Outcome {
    with_configuration(sources, async |loaded| {
        let (configuration, world) = (loaded.configuration, world::system());
        let how = if removes(&command) { Use::Serving } else { Use::Beside };
        let house = House::open(&configuration, &world, how).await?;
        close_after(&house, perform(&house.engine, &configuration, &world, command).await).await
    })
}

fn removes(command: &MediaCommand) -> bool {
    matches!(command, MediaCommand::Delete { .. } | MediaCommand::PruneRemote { .. } | MediaCommand::Purge { .. })
}

async fn perform(engine: &Engine, configuration: &Configuration, world: &World, command: MediaCommand) -> Outcome {
    match command {
        MediaCommand::Users { limit } => users(engine, limit.into()).await?,
        MediaCommand::List { name, limit } => list(engine, &user_id(configuration, &name)?, limit.into()).await?,
        MediaCommand::Quarantine { medium: Some(medium), .. } => {
            let (origin, media_id) = place(&medium)?;
            engine.quarantine_medium(&operator(configuration)?, &origin, &media_id).await?;
            println!("Quarantined {medium}");
        }
        MediaCommand::Quarantine { medium: None, user } => {
            let user_id = user_id(configuration, &user.unwrap_or_default())?;
            let count = engine.quarantine_media_of(&operator(configuration)?, &user_id).await?;
            println!("Quarantined {count} files of {user_id}");
        }
        MediaCommand::Unquarantine { medium } => {
            let (origin, media_id) = place(&medium)?;
            engine.release_medium(&origin, &media_id).await?;
            println!("Serving {medium} again");
        }
        MediaCommand::Protect { medium, end } => {
            let (origin, media_id) = place(&medium)?;
            engine.protect_medium(&origin, &media_id, !end).await?;
            println!("{} {medium}", if end { "No longer protecting" } else { "Protecting" });
        }
        MediaCommand::Delete { medium } => {
            let (origin, media_id) = place(&medium)?;
            engine.delete_medium(&origin, &media_id).await?;
            println!("Deleted {medium}");
        }
        MediaCommand::PruneRemote { unused_days } => {
            let before_ts = world.clock.now_ms().saturating_sub(u64::from(unused_days) * DAY_MS);
            println!("Deleted {} files that can be fetched again", engine.purge_media_cache(before_ts).await?);
        }
        MediaCommand::Purge { name } => {
            let user_id = user_id(configuration, &name)?;
            println!("Deleted {} files of {user_id}", engine.delete_media_of(&user_id).await?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn users(engine: &Engine, limit: usize) -> Result<(), Box<dyn Error>> {
    for (user_id, usage) in engine.storage().media_usage_by_user(limit).await? {
        println!("{:>10}  {:>7} files  {user_id}", size(usage.size), usage.count);
    }
    println!("{:>10}  of other servers and of previews", size(engine.storage().cached_media_size().await?));
    Ok(())
}

async fn list(engine: &Engine, user_id: &UserId, limit: usize) -> Result<(), Box<dyn Error>> {
    let (media, usage) = engine.media_of(user_id, 0, limit).await?;
    for medium in &media {
        println!("{}", line(medium));
    }
    println!("{} in {} files of {user_id}, of which {} are shown", size(usage.size), usage.count, media.len());
    Ok(())
}

/// A file, for people: what others have chosen of it is made fit for a terminal.
fn line(medium: &MediaRecord) -> String {
    let text = |text: &Option<String>| {
        text.as_deref().unwrap_or("-").chars().take(80).flat_map(char::escape_debug).collect::<String>()
    };
    let date = |ts: u64| {
        let moment = jiff::Timestamp::from_millisecond(i64::try_from(ts).unwrap_or(i64::MAX));
        moment.map_or_else(|_| "-".to_owned(), |moment| moment.strftime("%Y-%m-%d").to_string())
    };
    let bytes = medium.blob.as_ref().map_or(0, |blob| blob.size);
    let marks = [(medium.quarantined_by.is_some(), " quarantined"), (medium.protected, " protected")];
    let marks: String = marks.into_iter().filter_map(|(is_so, mark)| is_so.then_some(mark)).collect();
    format!(
        "{:>10}  {}  last asked for {}  mxc://{}/{}  {}  {}{marks}",
        size(bytes),
        date(medium.created_ts),
        date(medium.accessed_ts),
        medium.origin,
        medium.media_id,
        text(&medium.content_type),
        text(&medium.filename),
    )
}

/// A size, for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit < UNITS.len() - 1 {
        (tenths, unit) = (tenths / 1_000, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

fn place(medium: &str) -> Result<(OwnedServerName, String), Box<dyn Error>> {
    let parts = <&MxcUri>::from(medium).parts();
    let (origin, media_id): (&ServerName, &str) =
        parts.map_err(|error| format!("{medium:?} names no file: {error}; it must be mxc://SERVER/ID"))?;
    Ok((origin.to_owned(), media_id.to_owned()))
}

fn operator(configuration: &Configuration) -> Result<OwnedUserId, Box<dyn Error>> {
    Ok(UserId::parse_with_server_name(OPERATOR, &configuration.server_name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (2_550_000_000, "2.5 GB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn s_144_what_names_no_file_is_refused() {
        assert!(place("mxc://example.org/abc").is_ok());
        for hostile in
            ["", "abc", "https://example.org/abc", "mxc://example.org", "mxc:///abc", "mxc://example.org/a/b"]
        {
            assert!(place(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn names_of_files_do_nothing_to_a_terminal() {
        let medium = MediaRecord {
            origin: "example.org".try_into().unwrap(),
            media_id: "abc".to_owned(),
            blob: None,
            content_type: Some("text/plain".to_owned()),
            filename: Some("\u{1b}[2Jx".to_owned()),
            uploader: None,
            unauthenticated: false,
            protected: true,
            quarantined_by: Some("@a:b".to_owned()),
            created_ts: 0,
            accessed_ts: 0,
            expires_ts: None,
        };
        let line = line(&medium);
        assert!(!line.contains('\u{1b}') && line.ends_with("quarantined protected"), "{line}");
        assert!(line.contains("1970-01-01") && line.contains("mxc://example.org/abc"), "{line}");
    }
}
