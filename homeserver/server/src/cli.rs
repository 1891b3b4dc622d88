//! The command line.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    commands,
    configuration::{FILE_VARIABLE, SETTINGS, Sources},
};

#[derive(Parser)]
#[command(
    name = "nudge",
    version,
    about = "Nudge, a Matrix homeserver",
    long_about = "Nudge, a Matrix homeserver.\n\nWithout a command and without a configuration file it serves this machine \
                  only, at http://127.0.0.1:8008, with its data in ./nudge-data."
)]
struct Arguments {
    /// The configuration file; `nudge config example` prints one to start from [env: `NUDGE_CONFIG`]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server; the same as no command
    Serve,
    /// Write or check configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Manage accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Manage registration tokens
    #[command(subcommand)]
    RegistrationToken(RegistrationTokenCommand),
    /// Compare rooms with how other servers have them
    #[command(subcommand)]
    Room(RoomCommand),
    /// See what files there are, and keep them from being served or remove them
    #[command(subcommand)]
    Media(MediaCommand),
    /// Check that what is stored is consistent, and list what is not
    Fsck,
    /// Copy the database, the keys and the files into a folder; the server may be running
    Backup {
        /// A new or empty folder, or one with an earlier backup, which is brought up to date
        folder: PathBuf,
    },
    /// Put a backup into an empty data folder and an empty database, which may be of the other kind
    Restore {
        /// The folder that `nudge backup` wrote
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print an example of a configuration file
    Example,
    /// Say what is wrong with the configuration
    Check,
    /// Print the reference of all settings, as Markdown
    Reference,
}

/// What can be done to an account.
#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Create an account
    Create {
        /// The user's name, without @ and server
        name: String,
        /// Make it an administrator of this server
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Give an account another password
    ResetPassword {
        /// The user's name, without @ and server
        name: String,
        /// Also end all sessions of the account; the server must not be running
        #[arg(long)]
        log_out: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Close an account for good: it leaves its rooms, and its name stays taken; the server must not be running
    Deactivate {
        /// The user's name, without @ and server
        name: String,
        /// Also take its profile away, and show what it sent only to those who were there
        #[arg(long)]
        erase: bool,
    },
    /// Keep an account from doing anything, until it is unlocked; the server must not be running
    Lock {
        /// The user's name, without @ and server
        name: String,
    },
    /// Take the lock from an account; the server must not be running
    Unlock {
        /// The user's name, without @ and server
        name: String,
    },
    /// Let an account read, but not act, until that is ended; the server must not be running
    Suspend {
        /// The user's name, without @ and server
        name: String,
    },
    /// End the suspension of an account; the server must not be running
    Unsuspend {
        /// The user's name, without @ and server
        name: String,
    },
}

/// Where a password comes from.
#[derive(Args)]
pub(crate) struct PasswordSource {
    /// Make up a password and print it, instead of asking for one (or reading it from the standard input)
    #[arg(long)]
    pub(crate) generate: bool,
}

/// What can be done about a room.
#[derive(Subcommand)]
pub(crate) enum RoomCommand {
    /// Ask the other servers in a room for its state, and show where it differs from ours
    Check {
        /// The room's id, such as !abc:example.org
        room: String,
        /// Fetch the state of servers that differ, and resolve it anew together with ours; the server must not be
        /// running
        #[arg(long)]
        repair: bool,
    },
}

/// What can be done about files. Each is named as clients name it: `mxc://server/id`.
#[derive(Subcommand)]
pub(crate) enum MediaCommand {
    /// Show who has uploaded how much, those with the most first, and how much is kept of other servers
    Users {
        /// How many users to show
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
    },
    /// List what a user has uploaded, the latest first
    List {
        /// The user's name, without @ and server
        name: String,
        /// How many files to show
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
    },
    /// Serve a file to nobody any more, nor its content under another name
    Quarantine {
        /// The file, such as `mxc://example.org/abc`
        #[arg(required_unless_present = "user")]
        medium: Option<String>,
        /// Instead of one file, all that this user has uploaded, but for what is protected
        #[arg(long, value_name = "NAME", conflicts_with = "medium")]
        user: Option<String>,
    },
    /// Serve a file again that was kept from being served
    Unquarantine {
        /// The file, such as `mxc://example.org/abc`
        medium: String,
    },
    /// Have a file stay when all of its uploader's are quarantined or purged, or when uploads are removed by age
    Protect {
        /// The file, such as `mxc://example.org/abc`
        medium: String,
        /// Protect it no longer
        #[arg(long)]
        end: bool,
    },
    /// Delete a file for good, or what is kept of another server's; the server must not be running
    Delete {
        /// The file, such as `mxc://example.org/abc`
        medium: String,
    },
    /// Delete what is kept of other servers and of previews and was not asked for lately; it is fetched again when somebody
    /// asks; the server must not be running
    PruneRemote {
        /// For how many days nobody has asked for it
        #[arg(long, value_name = "N")]
        unused_days: u32,
    },
    /// Delete all that a user has uploaded for good, but for what is protected; the server must not be running
    Purge {
        /// The user's name, without @ and server
        name: String,
    },
}

#[derive(Subcommand)]
enum RegistrationTokenCommand {
    /// Create a token and print it
    Create {
        /// How many accounts may be created with it; without this, any number
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        uses: Option<u32>,
    },
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let sources = sources(&arguments, &matches);
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => commands::serve::run(&sources),
        Command::Config(ConfigCommand::Example) => Ok(commands::config::example()),
        Command::Config(ConfigCommand::Check) => commands::config::check(&sources),
        Command::Config(ConfigCommand::Reference) => Ok(commands::config::reference()),
        Command::User(command) => commands::user::run(&sources, command),
        Command::RegistrationToken(RegistrationTokenCommand::Create { uses }) => {
            commands::registration_token::create(&sources, uses)
        }
        Command::Room(command) => commands::room::run(&sources, command),
        Command::Media(command) => commands::media::run(&sources, command),
        Command::Fsck => commands::fsck::run(&sources),
        Command::Backup { folder } => commands::backup::make(&sources, &folder),
        Command::Restore { folder } => commands::backup::restore(&sources, &folder),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("nudge: {error}");
        ExitCode::FAILURE
    })
}

/// The whole command line: the commands above, and a flag for each setting that has one.
fn command() -> clap::Command {
    let flags = SETTINGS.iter().filter_map(|setting| {
        let flag = setting.flag?;
        let help = setting.lines().collect::<Vec<_>>().join(" ");
        let summary = help.split(". ").next().unwrap_or_default().trim_end_matches('.');
        let default =
            if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
        let argument = Arg::new(setting.key).long(flag.name).value_name(flag.value_name).global(true);
        Some(argument.help(format!("{summary}{default}")).long_help(format!("{help}{default}")))
    });
    Arguments::command().next_help_heading("Settings").args(flags)
}

fn sources(arguments: &Arguments, matches: &ArgMatches) -> Sources {
    let flags = SETTINGS.iter().filter(|setting| setting.flag.is_some()).filter_map(|setting| {
        let value = matches.get_one::<String>(setting.key)?;
        Some((setting.key, value.clone()))
    });
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let from_variable = || std::env::var_os(FILE_VARIABLE).map(PathBuf::from);
    Sources { file: arguments.config.clone().or_else(from_variable), environment, flags: flags.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_read_before_and_after_the_command() {
        for line in [["nudge", "--listen", "[::1]:1", "serve"], ["nudge", "serve", "--listen", "[::1]:1"]] {
            let matches = command().try_get_matches_from(line).unwrap();
            let arguments = Arguments::from_arg_matches(&matches).unwrap();
            assert_eq!(sources(&arguments, &matches).flags, [("listen", "[::1]:1".to_owned())]);
        }
    }
}
