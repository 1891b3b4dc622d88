//! All settings. This one table feeds the parsers of file, environment and flags, the help, the example file and
//! `docs/configuration.md`: the doc comments below are what operators read.

use std::{net::SocketAddr, path::PathBuf};

use ruma::{OwnedServerName, OwnedUserId, RoomVersionId};

use super::{
    layers::Layers,
    network::Network,
    problem::Problems,
    value::{
        Bytes, DatabaseUrl, Durability, Filter, JwtAlgorithm, Lifetime, List, Localpart, LogFormat, MailSecurity,
        Overrides, PageRule, PasswordHashing, RegistrationMode, Secret, Value, WebAddress,
    },
};

/// What there is to know about one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the file, with its section: `federation.listen`.
    pub key: &'static str,
    /// What its values look like.
    pub shape: &'static str,
    /// The default as text; empty when there is none.
    pub default: &'static str,
    /// A value in TOML.
    pub example: &'static str,
    /// What it is for; lines start with a space.
    pub text: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Its flag.
    pub flag: Option<Flag>,
}

/// The flag of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What stands for the value in the help.
    pub value_name: &'static str,
}

impl Setting {
    /// The section and the name inside of it.
    pub fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').unwrap_or(("", self.key))
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("NUDGE_{}", self.key.replace('.', "__").to_ascii_uppercase())
    }

    /// The text line by line.
    pub fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().map(str::trim)
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $text:literal])+
        $field:ident: $kind:ty = $default:literal, $key:literal, example $example:literal $(, flag $flag:literal $value_name:literal)?;
    )+) => {
        /// All settings, typed. Fields are named after their keys.
        #[derive(Clone, Debug)]
        pub struct Configuration { $($(#[doc = $text])+ pub $field: $kind,)+ }

        /// All settings, described.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            key: $key,
            shape: <$kind as Value>::SHAPE,
            default: $default,
            example: $example,
            text: concat!($($text, "\n"),+),
            secret: <$kind as Value>::SECRET,
            flag: settings!(@flag $($flag $value_name)?),
        }),+];

        impl Configuration {
            /// Types what was given; `None` when problems were added.
            pub(super) fn read(layers: &Layers, problems: &mut Problems) -> Option<Self> {
                $(let $field = layers.read::<$kind>($key, $default, problems);)+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
    (@flag) => { None };
    (@flag $name:literal $value_name:literal) => { Some(Flag { name: $name, value_name: $value_name }) };
}

settings! {
    /// The name of this server: the part behind the colon in user ids. It can never be changed, because every user id
    /// and every signature holds it. Required in a configuration file; without a file it is `localhost`.
    server_name: OwnedServerName = "", "server_name", example "\"example.org\"", flag "server-name" "NAME";
    /// The folder for the signing key and, unless settings say otherwise, the database and users' files. Relative to the
    /// working directory. Back it up.
    data_dir: PathBuf = "nudge-data", "data_dir", example "\"/var/lib/nudge\"", flag "data-dir" "DIR";
    /// Where clients and reverse proxies connect, over plain HTTP. Other servers are answered here too unless
    /// `federation.listen` is set.
    listen: SocketAddr = "127.0.0.1:8008", "listen", example "\"127.0.0.1:8008\"", flag "listen" "ADDRESS:PORT";

    /// The database: `sqlite:PATH` or `postgres://...`. By default the file `nudge.db` in `data_dir`.
    database_url: Option<DatabaseUrl> = "", "database.url", example "\"postgres://nudge@localhost/nudge\"", flag "database-url" "URL";
    /// What a power loss may take: `full` flushes each commit to the disk before it is acknowledged, and loses nothing;
    /// `relaxed` is faster and may lose the last moments, but never the consistency of the database.
    database_durability: Durability = "full", "database.durability", example "\"full\"";

    /// Who may create an account: everybody (`open`), whoever has a registration token (`token`), nobody (`closed`).
    /// `nudge user create` and `nudge registration-token create` work in any case. Without a configuration file
    /// registration is open as long as only this machine can connect.
    registration_mode: RegistrationMode = "closed", "registration.mode", example "\"token\"", flag "registration" "open|token|closed";
    /// A registration token that may be used any number of times. At least 12 of the characters `A-Z a-z 0-9 . _ ~ -`.
    /// Needs `registration.mode = "token"`.
    registration_token: Option<Secret> = "", "registration.token", example "\"a long random text\"";
    /// A file that holds that token, instead of `registration.token`.
    registration_token_file: Option<PathBuf> = "", "registration.token_file", example "\"/run/secrets/nudge-registration-token\"";
    /// A secret with which scripts create accounts, administrators too, whatever `registration.mode` is: they prove by it
    /// who they are at `/_synapse/admin/v1/register`, as with other servers. Without it there is no such endpoint.
    registration_shared_secret: Option<Secret> = "", "registration.shared_secret", example "\"a long random text\"";

    /// Whether guests may register: accounts without a password that can join only rooms that let guests in.
    registration_guests: bool = "false", "registration.guests", example "true";
    /// Whether new users have to show an e-mail address. Needs `mail.host`.
    registration_require_email: bool = "false", "registration.require_email", example "true";
    /// Where the terms are that new users have to accept. Without it, they accept none.
    registration_terms_url: Option<WebAddress> = "", "registration.terms_url", example "\"https://example.org/terms\"";
    /// What the terms are called.
    registration_terms_name: String = "Terms of use", "registration.terms_name", example "\"Terms of use\"";
    /// Which version of the terms it is.
    registration_terms_version: String = "1", "registration.terms_version", example "\"2\"";

    /// Where other servers connect, when not at `listen`.
    federation_listen: Option<SocketAddr> = "", "federation.listen", example "\"0.0.0.0:8448\"", flag "federation-listen" "ADDRESS:PORT";
    /// The certificate for `federation.listen`, with its chain, as PEM. Without it `federation.listen` speaks plain HTTP
    /// and needs a reverse proxy. Read again upon SIGHUP.
    federation_certificate_file: Option<PathBuf> = "", "federation.certificate_file", example "\"/etc/nudge/certificate.pem\"";
    /// The private key of that certificate, as PEM.
    federation_private_key_file: Option<PathBuf> = "", "federation.private_key_file", example "\"/etc/nudge/private-key.pem\"";
    /// Certificate authorities, as PEM files, to be trusted for other servers in addition to the usual ones.
    federation_extra_certificate_authorities: List<PathBuf> = "", "federation.extra_certificate_authorities", example "[\"/etc/nudge/our-own-authority.pem\"]";
    /// Where to connect for a server name, instead of looking it up. The name is still what certificates are checked
    /// for.
    federation_overrides: Overrides = "", "federation.overrides", example "{ \"hs2.example.org\" = \"192.0.2.2:8448\" }";
    /// Networks that would be refused because they are not public, but may be connected to when another server's name
    /// leads there. Without a configuration file that is this machine itself.
    federation_allow_private_addresses: List<Network> = "", "federation.allow_private_addresses", example "[\"192.168.0.0/16\"]";
    /// Servers that are asked for the keys of servers that do not answer themselves.
    federation_trusted_notaries: List<OwnedServerName> = "", "federation.trusted_notaries", example "[\"matrix.org\"]";
    /// Whether other servers are told the names that users give their devices, which often say what these are.
    federation_device_names: bool = "false", "federation.device_names", example "false";
    /// Whether large rooms of other servers can be used within seconds, before all of their members are known, which are
    /// asked for in the background. Until they are, clients that want all members at once do not show the room, nobody
    /// enters it by this server, and a server whose users were all removed from it may still be sent what is said there.
    federation_partial_state_joins: bool = "true", "federation.partial_state_joins", example "false";

    /// The version of new rooms when the client names none.
    rooms_default_version: RoomVersionId = "12", "rooms.default_version", example "\"12\"";

    /// Whether other servers may read this server's directory of public rooms, and so their users may find them there.
    rooms_directory_for_servers: bool = "false", "rooms.directory_for_servers", example "true";

    /// Whether this server's directory of public rooms is shown to whoever asks for it, also without an account.
    rooms_directory_for_everybody: bool = "false", "rooms.directory_for_everybody", example "true";

    /// Whether users see who of those they share rooms with is online, here and on other servers. In rooms of more than
    /// 1,000 members nobody sees it of somebody whom they share no smaller room with.
    presence_enabled: bool = "true", "presence.enabled", example "true";

    /// Whether clients that ask too often are told to wait. Turn it off for tests only.
    rate_limits_enabled: bool = "true", "rate_limits.enabled", example "true", flag "rate-limits" "on|off";

    /// Users who are never told to wait, such as bots of your own.
    rate_limits_exempt_users: List<OwnedUserId> = "", "rate_limits.exempt_users", example "[\"@bot:example.org\"]";

    /// Where clients reach this server, when that is not the address of `server_name`: the answer to
    /// `/.well-known/matrix/client`.
    well_known_client_base_url: Option<WebAddress> = "", "well_known.client_base_url", example "\"https://matrix.example.org\"";
    /// Where other servers reach this server, when that is not port 8448 of `server_name`: the answer to
    /// `/.well-known/matrix/server`.
    well_known_server: Option<OwnedServerName> = "", "well_known.server", example "\"matrix.example.org:443\"";

    /// The e-mail address of the administrator, for `/.well-known/matrix/support`. Where none of the three is set, that
    /// path answers 404.
    well_known_support_email: Option<String> = "", "well_known.support_email", example "\"admin@example.org\"";
    /// The user id of the administrator, for the same.
    well_known_support_matrix_id: Option<OwnedUserId> = "", "well_known.support_matrix_id", example "\"@admin:example.org\"";
    /// A page for those who need help, for the same.
    well_known_support_page: Option<WebAddress> = "", "well_known.support_page", example "\"https://example.org/help\"";

    /// How much work it is to guess a password from its stored hash. `cheap` is for tests only.
    accounts_password_hashing: PasswordHashing = "strong", "accounts.password_hashing", example "\"strong\"";
    /// The fewest characters of a new password.
    accounts_password_characters_min: u16 = "8", "accounts.password_characters_min", example "12";
    /// How long an access token lives when the client can refresh it. Tokens of other clients live until they log out.
    accounts_access_token_lifetime: Lifetime = "1h", "accounts.access_token_lifetime", example "\"12h\"";

    /// Whether a session, confirmed by the password, can ask for a token that logs in another device: what clients use
    /// for log-in by QR code and the like.
    accounts_login_tokens: bool = "true", "accounts.login_tokens", example "false";

    /// Identity servers by which users may invite people of whom they only know an e-mail address or a phone number. They
    /// learn the address, and who invites whom into which room. Without any, such invitations are refused.
    accounts_identity_servers: List<OwnedServerName> = "", "accounts.identity_servers", example "[\"vector.im\"]";

    /// The mail server that sends letters: to confirm e-mail addresses and to set forgotten passwords. Without it
    /// there is no e-mail.
    mail_host: Option<String> = "", "mail.host", example "\"mail.example.org\"";
    /// Its port. By default 465 with `tls`, 587 with `starttls`, 25 with `none`.
    mail_port: Option<u16> = "", "mail.port", example "465";
    /// How the connection is protected: TLS from the start (`tls`), after STARTTLS (`starttls`), or not at all (`none`),
    /// which is for a mail server on this machine.
    mail_security: MailSecurity = "tls", "mail.security", example "\"starttls\"";
    /// The user name at the mail server.
    mail_user: Option<String> = "", "mail.user", example "\"nudge\"";
    /// The password at the mail server.
    mail_password: Option<Secret> = "", "mail.password", example "\"a long random text\"";
    /// A file that holds that password, instead of `mail.password`.
    mail_password_file: Option<PathBuf> = "", "mail.password_file", example "\"/run/secrets/nudge-mail-password\"";
    /// The sender of the letters. By default `nudge@` and the name of this server.
    mail_from: Option<String> = "", "mail.from", example "\"Example chat <chat@example.org>\"";

    /// The secret of a service that knows your users: whoever brings a JSON Web Token that is signed with it can log in
    /// as `org.matrix.login.jwt`, under the name in its `sub`. Accounts that do not exist yet are created.
    jwt_secret: Option<Secret> = "", "jwt.secret", example "\"a long random text\"";
    /// A file that holds that secret, instead of `jwt.secret`.
    jwt_secret_file: Option<PathBuf> = "", "jwt.secret_file", example "\"/run/secrets/nudge-jwt-secret\"";
    /// The algorithm that the tokens are signed with. No other is accepted.
    jwt_algorithm: JwtAlgorithm = "HS256", "jwt.algorithm", example "\"HS512\"";
    /// What the tokens' `iss` must be.
    jwt_issuer: Option<String> = "", "jwt.issuer", example "\"https://login.example.org\"";
    /// What the tokens' `aud` must be or hold. Without it, tokens that have an `aud` are refused.
    jwt_audience: Option<String> = "", "jwt.audience", example "\"nudge\"";

    /// The addresses of a TURN server, which calls go through when the two sides cannot reach each other.
    turn_uris: List<String> = "", "turn.uris", example "[\"turn:turn.example.org?transport=udp\"]";
    /// The secret that the TURN server shares with this one (`static-auth-secret` of coturn): each user gets a password
    /// of their own that is good for `turn.lifetime`.
    turn_shared_secret: Option<Secret> = "", "turn.shared_secret", example "\"a long random text\"";
    /// A file that holds that secret, instead of `turn.shared_secret`.
    turn_shared_secret_file: Option<PathBuf> = "", "turn.shared_secret_file", example "\"/run/secrets/nudge-turn-secret\"";
    /// A user name for all, instead of the shared secret.
    turn_user: Option<String> = "", "turn.user", example "\"nudge\"";
    /// The password for that user name.
    turn_password: Option<Secret> = "", "turn.password", example "\"a long random text\"";
    /// How long what clients are given is good for.
    turn_lifetime: Lifetime = "1d", "turn.lifetime", example "\"12h\"";
    /// The registration files of bridges, bots and other application services, or folders of them, of which all files are
    /// read that end in `.yaml` or `.yml`. They are read at the start; `nudge config check` says what is wrong with them.
    /// See `docs/application-services.md`.
    application_services_registrations: List<PathBuf> = "", "application_services.registrations", example "[\"/etc/nudge/bridges\"]";
    /// Whether application services are spoken to as before version 1.4 of the specification, too: with the token in the
    /// query, where it ends up in logs, and at the older paths if they do not know the newer ones.
    application_services_legacy: bool = "false", "application_services.legacy", example "true";

    /// Whether this server has AI bots of its own, without any program beside it. Without a configuration file it has them
    /// as long as only this machine can connect. See `docs/ai-bots.md`.
    bots_enabled: bool = "false", "bots.enabled", example "true";
    /// A file with the bots and the language models that speak for them. Without it there are three buddies who need
    /// neither a key nor a network, and only know a few rules.
    bots_file: Option<PathBuf> = "", "bots.file", example "\"/etc/nudge/aibots.toml\"";

    /// The localpart of the user who speaks for this server when an administrator sends its users a notice, such as
    /// `notices`. The account is made when it is needed. Without it no notices can be sent.
    server_notices_user: Option<Localpart> = "", "server_notices.user", example "\"notices\"";

    /// The folder for the files that users upload, and for those of other servers that are kept here. By default the
    /// folder `media` in `data_dir`. With `media.s3_bucket` only what is just arriving lies there.
    media_folder: Option<PathBuf> = "", "media.folder", example "\"/srv/nudge-media\"";
    /// The largest file that users may upload.
    media_upload_max: Bytes = "100 MiB", "media.upload_max", example "\"50 MiB\"";
    /// The largest file that is fetched from another server.
    media_remote_max: Bytes = "100 MiB", "media.remote_max", example "\"50 MiB\"";
    /// How much each user may have uploaded altogether. Without it, any amount.
    media_user_quota: Option<Bytes> = "", "media.user_quota", example "\"5 GiB\"";
    /// For how long files of other servers, and images in previews, are kept after somebody last asked for them; they
    /// are fetched again when they are needed.
    media_cache_kept: Option<Lifetime> = "30d", "media.cache_kept", example "\"90d\"";
    /// How much there may be of them; those that nobody asked for for the longest time go first. Without it, any amount.
    media_cache_max: Option<Bytes> = "", "media.cache_max", example "\"20 GiB\"";
    /// For how long files that users uploaded are kept after somebody last asked for them. Then they are gone for good.
    /// Without it they are kept for ever.
    media_uploads_kept: Option<Lifetime> = "", "media.uploads_kept", example "\"1825d\"";
    /// Whether files that are uploaded or fetched from now on can be had without an access token, at the addresses that
    /// the specification has done away with. They remain so when this is turned off again.
    media_unauthenticated_access: bool = "false", "media.unauthenticated_access", example "true";
    /// Websites of which clients may show previews, with all hosts below them, or `*` for all. A name stands for the
    /// usual ports, `name:*` for all of them. Without it there are no previews.
    media_preview_allow: List<PageRule> = "", "media.preview_allow", example "[\"*\"]";
    /// Websites of which there are no previews, whatever else is allowed.
    media_preview_deny: List<PageRule> = "", "media.preview_deny", example "[\"intranet.example.org\"]";
    /// Networks that are not public, but where pages for previews may lie all the same, and files that other servers
    /// say to lie elsewhere. Users see what they ask for there. What is allowed for calls to other servers is not
    /// allowed for these.
    media_preview_allow_private_addresses: List<Network> = "", "media.preview_allow_private_addresses", example "[\"192.168.0.0/16\"]";
    /// A bucket of object storage that speaks the protocol of S3, for files instead of the folder.
    media_s3_bucket: Option<String> = "", "media.s3_bucket", example "\"nudge-media\"";
    /// The address of the object storage, when it is not Amazon's.
    media_s3_endpoint: Option<WebAddress> = "", "media.s3_endpoint", example "\"https://s3.example.org\"";
    /// The region of the bucket.
    media_s3_region: String = "us-east-1", "media.s3_region", example "\"eu-central-1\"";
    /// What the names of all objects in the bucket begin with.
    media_s3_prefix: String = "media", "media.s3_prefix", example "\"nudge/media\"";
    /// The access key for the bucket.
    media_s3_access_key: Option<String> = "", "media.s3_access_key", example "\"AKIAIOSFODNN7EXAMPLE\"";
    /// The secret of that key.
    media_s3_secret_key: Option<Secret> = "", "media.s3_secret_key", example "\"a long random text\"";
    /// A file that holds that secret, instead of `media.s3_secret_key`.
    media_s3_secret_key_file: Option<PathBuf> = "", "media.s3_secret_key_file", example "\"/run/secrets/nudge-s3-secret\"";

    /// Networks that are not public, but where push gateways may be all the same, such as one of your own on this machine.
    /// There they may be called without TLS too: `http:` instead of `https:` in what clients set. Users name these
    /// addresses. What is allowed for calls to other servers is not allowed for these.
    push_allow_private_addresses: List<Network> = "", "push.allow_private_addresses", example "[\"127.0.0.1\"]";

    /// Reverse proxies whose `X-Forwarded-For` header is believed. Rate limits and the list of a user's devices need it.
    network_trusted_proxies: List<Network> = "", "network.trusted_proxies", example "[\"127.0.0.1\", \"::1\"]";

    /// How log lines look: for eyes (`human`) or for machines (`json`). They go to the standard error stream.
    log_format: LogFormat = "human", "log.format", example "\"human\"";
    /// Which log lines are written: a level (`error`, `warn`, `info`, `debug`, `trace`), and other levels for parts of
    /// the program.
    log_filter: Filter = "info,ruma_state_res=warn,sqlx=warn", "log.filter", example "\"info,ruma_state_res=warn,sqlx=warn\"";

    /// Where Prometheus collects `/metrics`; also answers `/health` and `/ready`. Do not let the public in.
    metrics_listen: Option<SocketAddr> = "", "metrics.listen", example "\"127.0.0.1:9008\"";
}

/// What the sections are about.
pub(super) static SECTIONS: &[(&str, &str)] = &[
    ("", "The server"),
    ("database", "The database"),
    ("registration", "Who may create an account"),
    ("federation", "Other servers"),
    ("rooms", "Rooms"),
    ("presence", "Who is online"),
    ("rate_limits", "Rate limits"),
    ("well_known", "How others find this server"),
    ("accounts", "Accounts"),
    ("mail", "E-mail"),
    ("jwt", "Log-in by another service"),
    ("turn", "Calls"),
    ("application_services", "Bridges, bots and other application services"),
    ("bots", "AI bots"),
    ("server_notices", "Notices of the server to its users"),
    ("media", "Files"),
    ("push", "Push notifications"),
    ("network", "Reverse proxies"),
    ("log", "Logs"),
    ("metrics", "Metrics"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read_and_every_setting_has_a_section() {
        let mut layers = Layers::default();
        layers.add_default("server_name", "localhost");
        let mut problems = Problems::default();
        assert!(Configuration::read(&layers, &mut problems).is_some(), "{problems}");
        for setting in SETTINGS {
            let (section, _) = setting.section_and_name();
            assert!(SECTIONS.iter().any(|(name, _)| *name == section), "{}", setting.key);
        }
    }
}
