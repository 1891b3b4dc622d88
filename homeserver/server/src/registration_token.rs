//! The registration token of the configuration: it is one of those in the database, and leaves it when it leaves the
//! configuration.

use std::{fs, io};

use storage::RegistrationToken;

use crate::{
    configuration::{Configuration, RegistrationMode, Secret},
    signing_key::write_whole,
    wiring::{House, StartError},
};

/// Holds the token that the configuration had at the last start.
const FILE: &str = "configured_registration_token";

/// Makes the database follow the configuration, and refuses to start when nobody could register.
pub(crate) async fn settle(configuration: &Configuration, house: &House) -> Result<(), StartError> {
    let path = house.directory.join(FILE);
    let configured = configuration.registration_token.as_ref().map(Secret::reveal);
    let previous = match fs::read_to_string(&path) {
        Ok(token) => Some(token),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StartError::RegistrationToken(error)),
    };
    if let Some(previous) = previous.as_deref().filter(|previous| Some(*previous) != configured) {
        house.storage.delete_registration_token(previous).await?;
        fs::remove_file(&path).map_err(StartError::RegistrationToken)?;
    }
    if let Some(token) = configured {
        // Noted first: whatever happens in between, a token in the database is one that can be taken back.
        write_whole(&path, token.as_bytes()).map_err(StartError::RegistrationToken)?;
        let record = RegistrationToken { token: token.to_owned(), uses_allowed: None, uses: 0, expires_ts: None };
        house.storage.create_registration_token(&record).await?;
    }
    let needed = configuration.registration_mode == RegistrationMode::Token;
    if needed && house.storage.registration_tokens().await?.is_empty() {
        return Err(StartError::NoRegistrationToken);
    }
    Ok(())
}
