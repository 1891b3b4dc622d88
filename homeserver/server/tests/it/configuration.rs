//! Which settings win, and which are refused.

use std::{ffi::OsString, path::PathBuf};

use homeserver_server::configuration::{
    Loaded, Origin, Problems, RegistrationMode, SETTINGS, Sources, example, load, reference_page,
};
use tempfile::TempDir;

/// A random text that is good enough for a secret.
const TOKEN: &str = "9f2c6a51d0e84b7e";

#[derive(Default)]
struct Given {
    file: Option<String>,
    environment: Vec<(&'static str, String)>,
    flags: Vec<(&'static str, String)>,
}

impl Given {
    fn file(content: &str) -> Self {
        Self { file: Some(content.to_owned()), ..Self::default() }
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.flags.push((key, value.to_owned()));
        self
    }

    fn load(self) -> Result<Loaded, Problems> {
        let directory = TempDir::new().unwrap();
        let file: Option<PathBuf> = self.file.map(|content| {
            let path = directory.path().join("nudge.toml");
            std::fs::write(&path, content).unwrap();
            path
        });
        let variable = |(name, value): (&str, String)| (OsString::from(name), OsString::from(value));
        let environment = self.environment.into_iter().map(variable).collect();
        load(&Sources { file, environment, flags: self.flags })
    }

    /// The one problem there is, as the operator reads it.
    fn problem(self) -> String {
        let problems = self.load().expect_err("this should have been refused");
        assert_eq!(problems.0.len(), 1, "{problems}");
        problems.0[0].to_string()
    }
}

#[test]
fn s_122_missing_short_and_placeholder_secrets_are_refused() {
    let file =
        |token: &str| format!("server_name = \"a.example\"\n[registration]\nmode = \"token\"\ntoken = \"{token}\"\n");
    for token in ["", "changeme", "CHANGE_ME_CHANGE_ME", "short", "your-secret-token", "zzzzzzzzzzzzzzzzzz"] {
        let problem = Given::file(&file(token)).problem();
        assert!(problem.starts_with("registration.token (from ") && problem.contains("secret"), "{problem}");
        assert!(token.is_empty() || !problem.contains(&format!("{token:?}")), "the secret is shown: {problem}");
    }
    assert!(Given::file(&file(TOKEN)).load().is_ok());
    let from_environment = Given::file("server_name = \"a.example\"\nregistration.mode = \"token\"");
    let problem = from_environment.variable("NUDGE_REGISTRATION__TOKEN", "").problem();
    assert!(problem.contains("from NUDGE_REGISTRATION__TOKEN"), "{problem}");
    let database = "server_name = \"a.example\"\n[database]\nurl = \"postgres://nudge:changeme@localhost/nudge\"";
    let problem = Given::file(database).problem();
    assert!(problem.starts_with("database.url (from ") && problem.contains("password"), "{problem}");
}

#[test]
fn s_122_a_token_file_must_be_there_and_hold_a_secret() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    let given = || {
        let path = path.display();
        let file = format!("server_name = \"a.example\"\n[registration]\nmode = \"token\"\ntoken_file = \"{path}\"\n");
        Given::file(&file)
    };
    assert!(given().problem().contains("cannot be read"));
    std::fs::write(&path, "\n").unwrap();
    assert!(given().problem().contains("missing"));
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let token = given().load().unwrap().configuration.registration_token.unwrap();
    assert_eq!(token.reveal(), TOKEN);
}

#[test]
fn a_token_without_token_registration_is_a_mistake() {
    let file = format!("server_name = \"a.example\"\n[registration]\nmode = \"open\"\ntoken = \"{TOKEN}\"\n");
    assert!(Given::file(&file).problem().contains("registration.mode"));
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let given = || Given::file("server_name = \"file.example\"\nlisten = \"127.0.0.1:1\"");
    let names = |loaded: Loaded| (loaded.configuration.server_name.to_string(), loaded.configuration.listen.port());
    assert_eq!(names(given().load().unwrap()), ("file.example".to_owned(), 1));
    let with_variable = given().variable("NUDGE_SERVER_NAME", "variable.example");
    assert_eq!(names(with_variable.load().unwrap()), ("variable.example".to_owned(), 1));
    let with_flag = given().variable("NUDGE_SERVER_NAME", "variable.example").flag("server_name", "flag.example");
    assert_eq!(names(with_flag.load().unwrap()), ("flag.example".to_owned(), 1));
    let without_listen = Given::file("server_name = \"file.example\"").load().unwrap();
    assert_eq!(without_listen.configuration.listen.to_string(), "127.0.0.1:8008");
}

#[test]
fn nested_lists_and_tables_from_the_environment() {
    let given = Given::file("server_name = \"a.example\"")
        .variable("NUDGE_FEDERATION__LISTEN", "127.0.0.1:8448")
        .variable("NUDGE_FEDERATION__OVERRIDES", "hs2=127.0.0.2:8448, hs3=127.0.0.3:8448")
        .variable("NUDGE_NETWORK__TRUSTED_PROXIES", "10.0.0.0/8,::1")
        .variable("NUDGE_RATE_LIMITS__ENABLED", "off")
        .variable("PATH", "/bin")
        .variable("NUDGE_TEST_POSTGRES_URL", "postgres://localhost");
    let configuration = given.load().unwrap().configuration;
    assert_eq!(configuration.federation_listen.unwrap().port(), 8448);
    assert_eq!(configuration.federation_overrides.0.len(), 2);
    assert_eq!(configuration.network_trusted_proxies.0.len(), 2);
    assert!(!configuration.rate_limits_enabled);
}

#[test]
fn unknown_keys_and_variables_are_named_with_the_nearest_known() {
    let given = |line: &str| Given::file(&format!("server_name = \"a.example\"\n{line}"));
    let problem = given("listne = \"127.0.0.1:1\"").problem();
    assert!(problem.starts_with("listne (from ") && problem.contains("did you mean listen?"), "{problem}");
    let problem = given("[federation]\nlistenn = \"127.0.0.1:1\"").problem();
    assert!(problem.contains("did you mean federation.listen?"), "{problem}");
    let problem = given("[fedration]\nlisten = \"127.0.0.1:1\"").problem();
    assert!(problem.contains("fedration"), "{problem}");
    let problem = given("federation = true").problem();
    assert!(problem.contains("section"), "{problem}");
    let problem = given("").variable("NUDGE_SERVERNAME", "b.example").problem();
    assert!(problem.starts_with("NUDGE_SERVERNAME: ") && problem.contains("NUDGE_SERVER_NAME?"), "{problem}");
    let problem = given("").variable("NUDGE_FEDERATION_LISTEN", "127.0.0.1:1").problem();
    assert!(problem.contains("NUDGE_FEDERATION__LISTEN?"), "{problem}");
}

#[test]
fn wrong_values_are_named_with_what_to_write() {
    let table = [
        ("listen = \"8008\"", "listen = \"8008\" (from "),
        ("listen = 8008", "listen = 8008 (from "),
        ("database.durability = \"maybe\"", "`full` or `relaxed`"),
        ("database.url = \"mysql://localhost\"", "`sqlite:PATH`"),
        ("registration.mode = true", "write it as text in quotes"),
        ("rate_limits.enabled = \"true\"", "`true` or `false`"),
        ("rooms.default_version = \"999\"", "a room version"),
        ("federation.overrides = [\"hs2\"]", "write it as a table"),
        ("federation.allow_private_addresses = [\"127.0.0.0/99\"]", "a network"),
        ("federation.allow_private_addresses = \"127.0.0.0/8\"", "write it as a list"),
        ("federation.private_key_file = \"/nowhere\"", "federation.certificate_file"),
        ("federation.extra_certificate_authorities = [\"/nowhere\"]", "cannot be read"),
        ("well_known.client_base_url = \"matrix.example\"", "`https://`"),
        ("accounts.access_token_lifetime = \"12\"", "a time span"),
        ("log.filter = \"info,=\"", "a filter"),
        ("metrics.listen = \"127.0.0.1:8008\"", "listen has this address"),
    ];
    for (line, expected) in table {
        let problem = Given::file(&format!("server_name = \"a.example\"\n{line}")).problem();
        assert!(problem.contains(expected), "{line}: {problem}");
    }
    assert!(Given::file("server_name = \"a.example").problem().contains("not TOML"));
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = Given::file("listen = 1\nlog.format = \"xml\"").load().unwrap_err();
    let settings: Vec<&str> = problems.0.iter().map(|problem| problem.setting.as_str()).collect();
    assert_eq!(settings, ["server_name", "listen", "log.format"]);
    assert_eq!(problems.0[0].origin, Origin::Default);
}

#[test]
fn without_a_file_this_machine_may_register_and_others_may_not() {
    let mode = |given: Given| given.load().unwrap().configuration.registration_mode;
    assert_eq!(mode(Given::default()), RegistrationMode::Open);
    assert_eq!(mode(Given::default().flag("listen", "[::1]:8008")), RegistrationMode::Open);
    assert_eq!(mode(Given::default().flag("listen", "0.0.0.0:8008")), RegistrationMode::Closed);
    assert_eq!(mode(Given::default().variable("NUDGE_LISTEN", "192.0.2.1:8008")), RegistrationMode::Closed);
    let opened = Given::default().flag("listen", "0.0.0.0:8008").flag("registration.mode", "open");
    assert_eq!(mode(opened), RegistrationMode::Open);

    let loaded = Given::default().flag("listen", "0.0.0.0:8008").load().unwrap();
    assert!(loaded.notices.iter().any(|notice| notice.contains("registration is closed")), "{:?}", loaded.notices);
    let loaded = Given::default().load().unwrap();
    assert_eq!(loaded.configuration.server_name, "localhost");
    assert!(loaded.configuration.federation_allow_private_addresses.0[0].contains([127, 0, 0, 1].into()));
}

#[test]
fn with_a_file_nothing_is_open_that_it_does_not_open() {
    let configuration = Given::file("server_name = \"a.example\"").load().unwrap().configuration;
    assert_eq!(configuration.registration_mode, RegistrationMode::Closed);
    assert!(configuration.federation_allow_private_addresses.0.is_empty());
    assert!(Given::file("").problem().starts_with("server_name: this has to be set"));
}

#[test]
fn the_example_can_be_used_and_each_of_its_values_too() {
    assert!(Given::file(&example()).load().is_ok());
    let mut complete = example();
    for setting in SETTINGS {
        let (_, name) = setting.section_and_name();
        let commented = format!("# {name} = {}", setting.example);
        complete = complete.replace(&commented, &commented[2..]);
    }
    // What remains wrong are files that do not exist, and a secret that is none.
    let problems = Given::file(&complete).load().unwrap_err();
    for problem in &problems.0 {
        let names_a_file = ["file", "authorities", "registrations"].iter().any(|part| problem.setting.contains(part));
        assert!(names_a_file, "{problem}");
    }
    assert!(complete.contains("\ntrusted_proxies = ["), "{complete}");
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == reference_page(), "run: cargo run -- config reference > docs/configuration.md");
}
