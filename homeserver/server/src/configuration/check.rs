//! What a single value cannot say about itself: secrets that are none, settings that need each other, files that cannot
//! be read.

use std::{net::SocketAddr, path::Path};

use super::{
    layers::Layers,
    problem::Problems,
    settings::Configuration,
    value::{RegistrationMode, Secret},
};
use crate::services;

/// Shorter secrets can be guessed.
const SECRET_LENGTH_MIN: usize = 12;

/// The spec's limit for registration tokens.
const TOKEN_LENGTH_MAX: usize = 64;

/// Words that stand where a secret should have been put, as they are found in examples. Compared without case and
/// punctuation, as a part of the secret.
const PLACEHOLDERS: &[&str] =
    &["changeme", "placeholder", "example", "yoursecret", "yourtoken", "insertsecret", "password", "todo"];

/// Checks, and takes the registration token out of its file.
pub(super) fn check(configuration: &mut Configuration, layers: &Layers, problems: &mut Problems) {
    let mut checks = Checks { layers, problems };
    checks.read_token_file(configuration);
    checks.registration_token(configuration);
    checks.database_password(configuration);
    checks.other_secrets(configuration);
    checks.mail(configuration);
    checks.turn(configuration);
    checks.object_storage(configuration);
    checks.certificate(configuration);
    checks.listeners(configuration);
    checks.application_services(configuration);
}

struct Checks<'a> {
    layers: &'a Layers,
    problems: &'a mut Problems,
}

impl Checks<'_> {
    fn refuse(&mut self, key: &str, seen: Option<String>, advice: impl Into<String>) {
        self.problems.add(key, self.layers.origin(key), seen, advice);
    }

    fn read_token_file(&mut self, configuration: &mut Configuration) {
        const KEY: &str = "registration.token_file";
        let Some(path) = &configuration.registration_token_file else { return };
        let seen = Some(format!("{:?}", path.display()));
        if configuration.registration_token.is_some() {
            return self.refuse(KEY, seen, "registration.token is set too; remove one of them");
        }
        match std::fs::read_to_string(path) {
            Ok(content) => configuration.registration_token = Some(Secret::from(content.trim().to_owned())),
            Err(error) => self.refuse(KEY, seen, format!("the file cannot be read: {error}")),
        }
    }

    fn registration_token(&mut self, configuration: &Configuration) {
        let Some(token) = configuration.registration_token.as_ref().map(Secret::reveal) else { return };
        let from_file = configuration.registration_token_file.is_some();
        let key = if from_file { "registration.token_file" } else { "registration.token" };
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._~-".contains(letter);
        if let Some(complaint) = weakness(token) {
            self.refuse(key, None, format!("{complaint}; write the output of: openssl rand -hex 16"));
        } else if token.len() > TOKEN_LENGTH_MAX || !token.chars().all(allowed) {
            self.refuse(key, None, "a token has at most 64 characters, all of them out of A-Z a-z 0-9 . _ ~ -");
        } else if configuration.registration_mode != RegistrationMode::Token {
            self.refuse(key, None, "it would have no effect; set registration.mode to \"token\", or remove it");
        }
    }

    /// Takes the other secrets out of their files, and refuses those that can be guessed.
    fn other_secrets(&mut self, configuration: &mut Configuration) {
        let Configuration { mail_password, jwt_secret, turn_shared_secret, media_s3_secret_key, .. } = configuration;
        let secrets = [
            ("mail.password", mail_password, &configuration.mail_password_file),
            ("jwt.secret", jwt_secret, &configuration.jwt_secret_file),
            ("turn.shared_secret", turn_shared_secret, &configuration.turn_shared_secret_file),
            ("media.s3_secret_key", media_s3_secret_key, &configuration.media_s3_secret_key_file),
        ];
        for (key, secret, file) in secrets {
            if let Some(path) = file {
                self.read_secret(key, secret, path);
            }
        }
        for (key, secret) in [("jwt.secret", jwt_secret), ("turn.shared_secret", turn_shared_secret)] {
            if let Some(complaint) = secret.as_ref().and_then(|secret| weakness(secret.reveal())) {
                self.refuse(key, None, format!("{complaint}; write the output of: openssl rand -hex 32"));
            }
        }
    }

    fn read_secret(&mut self, key: &str, secret: &mut Option<Secret>, path: &Path) {
        let (file_key, seen) = (format!("{key}_file"), Some(format!("{:?}", path.display())));
        if secret.is_some() {
            return self.refuse(&file_key, seen, format!("{key} is set too; remove one of them"));
        }
        match std::fs::read_to_string(path) {
            Ok(content) => *secret = Some(Secret::from(content.trim().to_owned())),
            Err(error) => self.refuse(&file_key, seen, format!("the file cannot be read: {error}")),
        }
    }

    fn mail(&mut self, configuration: &Configuration) {
        if configuration.mail_host.is_none() && configuration.registration_require_email {
            self.refuse("registration.require_email", None, "nobody could register: set mail.host, or remove it");
        }
        match (&configuration.mail_user, &configuration.mail_password) {
            (Some(_), None) => self.refuse("mail.password", None, "mail.user is set, so this has to be set too"),
            (None, Some(_)) => self.refuse("mail.user", None, "mail.password is set, so this has to be set too"),
            _ => {}
        }
    }

    fn turn(&mut self, configuration: &Configuration) {
        const KEY: &str = "turn.uris";
        for uri in &configuration.turn_uris.0 {
            if !["turn:", "turns:", "stun:", "stuns:"].iter().any(|scheme| uri.starts_with(scheme)) {
                self.refuse(KEY, Some(format!("{uri:?}")), "addresses start with turn: or turns:");
            }
        }
        let by_secret = configuration.turn_shared_secret.is_some();
        let by_password = configuration.turn_user.is_some() && configuration.turn_password.is_some();
        if !configuration.turn_uris.0.is_empty() && !by_secret && !by_password {
            self.refuse(KEY, None, "nobody could use it: set turn.shared_secret, or turn.user and turn.password");
        }
    }

    fn object_storage(&mut self, configuration: &Configuration) {
        const KEY: &str = "media.s3_access_key";
        match (&configuration.media_s3_access_key, &configuration.media_s3_secret_key) {
            (Some(_), None) => self.refuse("media.s3_secret_key", None, "media.s3_access_key is set, so set this too"),
            (None, Some(_)) => self.refuse(KEY, None, "media.s3_secret_key is set, so set this too"),
            (Some(_), Some(_)) if configuration.media_s3_bucket.is_none() => {
                self.refuse(KEY, None, "it would have no effect; set media.s3_bucket, or remove it");
            }
            _ => {}
        }
    }

    fn database_password(&mut self, configuration: &Configuration) {
        let url = configuration.database_url.as_ref();
        if let Some(complaint) = url.and_then(|url| url.password()).and_then(weakness_of_password) {
            self.refuse("database.url", None, format!("the password in it: {complaint}"));
        }
    }

    fn certificate(&mut self, configuration: &Configuration) {
        const CERTIFICATE: &str = "federation.certificate_file";
        const KEY: &str = "federation.private_key_file";
        match (&configuration.federation_certificate_file, &configuration.federation_private_key_file) {
            (Some(_), None) => self.refuse(KEY, None, "the certificate file is set, so this has to be set too"),
            (None, Some(_)) => self.refuse(CERTIFICATE, None, "the private key file is set, so this has to be set too"),
            (Some(certificate), Some(key)) => {
                self.readable(CERTIFICATE, certificate);
                self.readable(KEY, key);
                if configuration.federation_listen.is_none() {
                    self.refuse(
                        CERTIFICATE,
                        None,
                        "only federation.listen speaks TLS; set it, or remove the certificate",
                    );
                }
            }
            (None, None) => {}
        }
        for path in &configuration.federation_extra_certificate_authorities.0 {
            self.readable("federation.extra_certificate_authorities", path);
        }
    }

    fn readable(&mut self, key: &str, path: &Path) {
        if let Err(error) = std::fs::File::open(path) {
            let advice = format!("the file cannot be read: {error}");
            self.refuse(key, Some(format!("{:?}", path.display())), advice);
        }
    }

    fn application_services(&mut self, configuration: &Configuration) {
        const KEY: &str = "application_services.registrations";
        let paths = &configuration.application_services_registrations.0;
        let (_, problems) = services::read(paths, &configuration.server_name);
        for services::RegistrationProblem { path, text } in problems {
            self.refuse(KEY, Some(format!("{:?}", path.display())), text);
        }
    }

    fn listeners(&mut self, configuration: &Configuration) {
        let listeners = [
            ("listen", Some(configuration.listen)),
            ("federation.listen", configuration.federation_listen),
            ("metrics.listen", configuration.metrics_listen),
        ];
        let listeners: Vec<(&str, SocketAddr)> =
            listeners.into_iter().filter_map(|(key, address)| address.map(|address| (key, address))).collect();
        for (index, (key, address)) in listeners.iter().enumerate() {
            // Port 0 lets the system choose, so two of them never collide.
            let taken = listeners[..index].iter().find(|(_, other)| other == address && address.port() != 0);
            if let Some((other, _)) = taken {
                self.refuse(
                    key,
                    Some(format!("\"{address}\"")),
                    format!("{other} has this address; choose another port"),
                );
            }
        }
    }
}

/// Why a text is no secret.
fn weakness(secret: &str) -> Option<String> {
    if secret.is_empty() {
        return Some("the secret is missing".to_owned());
    }
    if is_placeholder(secret) {
        return Some("the secret is a placeholder".to_owned());
    }
    let varied = secret.chars().any(|letter| !secret.starts_with(letter));
    (secret.len() < SECRET_LENGTH_MIN || !varied)
        .then(|| format!("the secret needs {SECRET_LENGTH_MIN} random characters"))
}

/// Passwords of databases may be short, since only this machine may be able to connect.
fn weakness_of_password(password: &str) -> Option<String> {
    if password.is_empty() {
        return Some("it is empty; leave the colon out if there is no password".to_owned());
    }
    is_placeholder(password).then(|| "it is a placeholder".to_owned())
}

fn is_placeholder(secret: &str) -> bool {
    let letters: String = secret.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| letters.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_122_what_is_no_secret() {
        for secret in
            ["", "short", "CHANGE-ME-please", "change_me_now", "aaaaaaaaaaaaaaaa", "Password12345", "your-secret-here"]
        {
            assert!(weakness(secret).is_some(), "{secret:?}");
        }
        assert_eq!(weakness("9f2c6a51d0e84b7e"), None);
    }
}
