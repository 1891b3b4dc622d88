//! `nudge user`: accounts, changed in the database directly.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::{Command, ExitCode, Stdio},
};

use engine::Engine;
use rules::world::World;
use ruma::{OwnedUserId, UserId};
use storage::{AccountCreation, NewAccount};

use super::{Outcome, with_configuration};
use crate::{
    cli::{PasswordSource, UserCommand},
    configuration::{Configuration, RegistrationMode, Sources},
    data_directory::Use,
    wiring::House,
    world,
};

/// 119 bits: nobody guesses one.
const GENERATED_LENGTH: usize = 20;

pub(crate) fn run(sources: &Sources, command: UserCommand) -> Outcome {
    with_configuration(sources, async |loaded| {
        let mut configuration = loaded.configuration;
        // The operator may create accounts whoever else may not.
        configuration.registration_mode = RegistrationMode::Open;
        let world = world::system();
        match command {
            UserCommand::Create { name, admin, password } => {
                let house = House::open(&configuration, &world, Use::Beside).await?;
                close_after(&house, create(&house.engine, &world, &name, admin, &password).await).await
            }
            UserCommand::ResetPassword { name, log_out, password } => {
                // A running server remembers which sessions are good.
                let how = if log_out { Use::Serving } else { Use::Beside };
                let house = House::open(&configuration, &world, how).await?;
                let user_id = user_id(&configuration, &name)?;
                close_after(&house, reset_password(&house.engine, &world, &user_id, log_out, &password).await).await
            }
            UserCommand::Deactivate { name, erase } => {
                let house = House::open(&configuration, &world, Use::Serving).await?;
                let user_id = user_id(&configuration, &name)?;
                close_after(&house, deactivate(&house.engine, &user_id, erase).await).await
            }
            UserCommand::Lock { name } => stand(&configuration, &world, &name, Standing::Locked(true)).await,
            UserCommand::Unlock { name } => stand(&configuration, &world, &name, Standing::Locked(false)).await,
            UserCommand::Suspend { name } => stand(&configuration, &world, &name, Standing::Suspended(true)).await,
            UserCommand::Unsuspend { name } => stand(&configuration, &world, &name, Standing::Suspended(false)).await,
        }
    })
}

/// What becomes of an account.
#[derive(Clone, Copy)]
enum Standing {
    Locked(bool),
    Suspended(bool),
}

/// A running server remembers what accounts may do, so it must not be running.
async fn stand(configuration: &Configuration, world: &World, name: &str, standing: Standing) -> Outcome {
    let house = House::open(configuration, world, Use::Serving).await?;
    let user_id = user_id(configuration, name)?;
    close_after(&house, set_standing(&house.engine, &user_id, standing).await).await
}

async fn set_standing(engine: &Engine, user_id: &UserId, standing: Standing) -> Outcome {
    require(engine, user_id).await?;
    let done = match standing {
        Standing::Locked(locked) => {
            engine.storage().set_locked(user_id, locked).await?;
            if locked { "Locked" } else { "Unlocked" }
        }
        Standing::Suspended(suspended) => {
            engine.storage().set_suspended(user_id, suspended).await?;
            if suspended { "Suspended" } else { "Ended the suspension of" }
        }
    };
    println!("{done} {user_id}");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn close_after(house: &House, outcome: Outcome) -> Outcome {
    house.engine.stop();
    house.storage.close().await;
    outcome
}

async fn create(engine: &Engine, world: &World, name: &str, admin: bool, source: &PasswordSource) -> Outcome {
    let user_id = engine.registration_check(Some(name)).await?;
    let password = password(source, world, &user_id)?;
    let created_ts = world.clock.now_ms();
    let account = NewAccount {
        user_id: user_id.clone(),
        password_hash: None,
        display_name: Some(user_id.localpart().to_owned()),
        created_ts,
        guest: false,
        admin,
    };
    match engine.storage().create_account(account, None).await? {
        AccountCreation::Created => {}
        AccountCreation::UserIdTaken => return Err(format!("{user_id} exists already").into()),
        AccountCreation::TokenSpent => return Err("an account without a registration token needed one".into()),
    }
    let without_password = |error| {
        format!("{user_id} exists now, but has no password yet: {error}; run: nudge user reset-password {name}")
    };
    engine.change_password(&user_id, password.text(), None).await.map_err(without_password)?;
    println!("Created {user_id}{}", if admin { ", an administrator" } else { "" });
    password.show();
    Ok(ExitCode::SUCCESS)
}

async fn reset_password(
    engine: &Engine,
    world: &World,
    user_id: &UserId,
    log_out: bool,
    source: &PasswordSource,
) -> Outcome {
    require(engine, user_id).await?;
    let password = password(source, world, user_id)?;
    engine.change_password(user_id, password.text(), None).await?;
    if log_out {
        engine.logout_all(user_id).await?;
    }
    println!("Changed the password of {user_id}{}", if log_out { " and ended its sessions" } else { "" });
    password.show();
    Ok(ExitCode::SUCCESS)
}

async fn deactivate(engine: &Engine, user_id: &UserId, erase: bool) -> Outcome {
    require(engine, user_id).await?;
    engine.deactivate(user_id, erase).await?;
    println!("Deactivated {user_id}");
    Ok(ExitCode::SUCCESS)
}

async fn require(engine: &Engine, user_id: &UserId) -> Result<(), Box<dyn Error>> {
    match engine.storage().account(user_id).await? {
        Some(_) => Ok(()),
        None => Err(format!("there is no account {user_id}").into()),
    }
}

pub(super) fn user_id(configuration: &Configuration, name: &str) -> Result<OwnedUserId, Box<dyn Error>> {
    let user_id = UserId::parse_with_server_name(name, &configuration.server_name)
        .map_err(|error| format!("{name:?} is no user's name: {error}"))?;
    if user_id.server_name() == configuration.server_name {
        Ok(user_id)
    } else {
        Err(format!("{user_id} belongs to another server than {}", configuration.server_name).into())
    }
}

/// A password, and whether somebody has yet to hear of it.
enum Password {
    Typed(String),
    Generated(String),
}

impl Password {
    fn text(&self) -> &str {
        match self {
            Self::Typed(text) | Self::Generated(text) => text,
        }
    }

    fn show(&self) {
        if let Self::Generated(text) = self {
            println!("Its password is {text}");
        }
    }
}

fn password(source: &PasswordSource, world: &World, user_id: &UserId) -> Result<Password, Box<dyn Error>> {
    if source.generate {
        return Ok(Password::Generated(world.random_string(GENERATED_LENGTH)));
    }
    if !io::stdin().is_terminal() {
        return Ok(Password::Typed(read_line()?));
    }
    let first = ask_unseen(&format!("Password for {user_id}: "))?;
    if ask_unseen("The same again: ")? == first {
        Ok(Password::Typed(first))
    } else {
        Err("the two passwords differ; nothing was changed".into())
    }
}

fn ask_unseen(prompt: &str) -> io::Result<String> {
    eprint!("{prompt}");
    io::stderr().flush()?;
    let hidden = echo(false);
    let line = read_line();
    if hidden {
        echo(true);
        eprintln!();
    }
    line
}

/// Whether the terminal shows what is typed. There is no other way to say so without unsafe code.
fn echo(shown: bool) -> bool {
    let status = Command::new("stty").arg(if shown { "echo" } else { "-echo" }).stdin(Stdio::inherit()).status();
    status.is_ok_and(|status| status.success())
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
