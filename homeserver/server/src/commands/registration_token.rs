//! `nudge registration-token`.

use std::process::ExitCode;

use storage::RegistrationToken;

use super::{Outcome, with_configuration};
use crate::{
    configuration::{RegistrationMode, Sources},
    data_directory::Use,
    wiring::House,
    world,
};

/// 143 bits: nobody guesses one.
const TOKEN_LENGTH: usize = 24;

pub(crate) fn create(sources: &Sources, uses: Option<u32>) -> Outcome {
    with_configuration(sources, async |loaded| {
        let world = world::system();
        let house = House::open(&loaded.configuration, &world, Use::Beside).await?;
        let token = world.random_string(TOKEN_LENGTH);
        let record = RegistrationToken { token: token.clone(), uses_allowed: uses, uses: 0, expires_ts: None };
        let created = house.storage.create_registration_token(&record).await?;
        house.storage.close().await;
        if !created {
            return Err("the new token exists already; try again".into());
        }
        println!("{token}");
        if loaded.configuration.registration_mode != RegistrationMode::Token {
            eprintln!("Note: the token has no effect unless registration.mode is \"token\"");
        }
        Ok(ExitCode::SUCCESS)
    })
}
