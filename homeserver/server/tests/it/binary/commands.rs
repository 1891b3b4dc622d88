//! The commands beside the server.

use std::process::Output;

use serde_json::json;
use tempfile::TempDir;

use super::process::{Nudge, nudge, register};

const PASSWORD: &str = "we are all mad here";

fn succeeded(output: &Output) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", shown(&output.stdout), shown(&output.stderr));
    shown(&output.stdout)
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn can_log_in(server: &Nudge, name: &str, password: &str) -> bool {
    let user = json!({ "type": "m.id.user", "user": name });
    let body = json!({ "type": "m.login.password", "identifier": user, "password": password });
    server.post("/_matrix/client/v3/login", None, &body).0 == 200
}

#[test]
fn accounts_are_managed_beside_the_server() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &["--registration", "closed", "--rate-limits", "off"], &[]);
    let user = |arguments: &[&str], input: &str| {
        let arguments: Vec<&str> = ["user"].iter().chain(arguments).copied().collect();
        nudge(&directory, &arguments, &[], input)
    };
    let created = succeeded(&user(&["create", "hatter", "--admin"], &format!("{PASSWORD}\n")));
    assert!(created.contains("@hatter:localhost") && !created.contains(PASSWORD), "{created}");
    assert!(can_log_in(&server, "hatter", PASSWORD));
    assert!(refused(&user(&["create", "hatter"], PASSWORD)).contains("nudge: "));
    assert!(refused(&user(&["create", "not a name"], PASSWORD)).contains("nudge: "));

    let reset = succeeded(&user(&["reset-password", "hatter", "--generate"], ""));
    let generated = reset.trim().rsplit(' ').next().unwrap();
    assert!(can_log_in(&server, "hatter", generated) && !can_log_in(&server, "hatter", PASSWORD));
    assert!(refused(&user(&["reset-password", "nobody"], PASSWORD)).contains("@nobody:localhost"));
    assert!(refused(&user(&["deactivate", "hatter"], "")).contains("in use"));

    assert!(server.terminate().success());
    succeeded(&user(&["deactivate", "hatter"], ""));
    assert!(refused(&user(&["create", "hatter"], PASSWORD)).contains("nudge: "));
    assert!(succeeded(&nudge(&directory, &["fsck"], &[], "")).contains("is consistent"));
    let server = Nudge::start(&directory, &["--rate-limits", "off"], &[]);
    assert!(!can_log_in(&server, "hatter", generated));
}

#[test]
fn a_weak_password_is_refused_and_can_be_set_right() {
    let directory = TempDir::new().unwrap();
    let message = refused(&nudge(&directory, &["user", "create", "dormouse"], &[], "zzz\n"));
    assert!(message.contains("reset-password dormouse"), "{message}");
    succeeded(&nudge(&directory, &["user", "reset-password", "dormouse"], &[], &format!("{PASSWORD}\n")));
}

#[test]
fn registration_tokens_come_from_the_command_line_and_from_the_configuration() {
    let directory = TempDir::new().unwrap();
    let closed = ["--registration", "token", "--rate-limits", "off"];
    let message = refused(&nudge(&directory, &["--registration", "token", "--listen", "127.0.0.1:0"], &[], ""));
    assert!(message.contains("there is no token"), "{message}");
    let once = succeeded(&nudge(&directory, &["registration-token", "create", "--uses", "1"], &[], ""));

    let first = [("NUDGE_REGISTRATION__TOKEN", "9f2c6a51d0e84b7e")];
    let server = Nudge::start(&directory, &closed, &first);
    assert!(registers(&server, "alice", once.trim()));
    assert!(!registers(&server, "bob", once.trim()));
    assert!(registers(&server, "bob", first[0].1) && registers(&server, "carol", first[0].1));
    assert!(server.terminate().success());

    let second = [("NUDGE_REGISTRATION__TOKEN", "b1d7740c93ae562f")];
    let server = Nudge::start(&directory, &closed, &second);
    assert!(!registers(&server, "dave", first[0].1), "a token that left the configuration is good for nothing");
    assert!(registers(&server, "dave", second[0].1));
}

fn registers(server: &Nudge, name: &str, token: &str) -> bool {
    let register = |auth| {
        let body = json!({ "username": name, "password": PASSWORD, "auth": auth });
        server.post("/_matrix/client/v3/register", None, &body)
    };
    let session = register(json!(null)).1["session"].clone();
    register(json!({ "type": "m.login.registration_token", "token": token, "session": session })).0 == 200
}

#[test]
fn the_example_passes_the_check() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("nudge.toml");
    std::fs::write(&path, succeeded(&nudge(&directory, &["config", "example"], &[], ""))).unwrap();
    let path = path.to_str().unwrap();
    assert!(succeeded(&nudge(&directory, &["config", "check", "--config", path], &[], "")).contains(path));
    succeeded(&nudge(&directory, &["config", "check"], &[("NUDGE_CONFIG", path)], ""));
    let wrong = [("NUDGE_LISTEN", "8008")];
    assert!(refused(&nudge(&directory, &["config", "check", "--config", path], &wrong, "")).contains("NUDGE_LISTEN"));
}

#[test]
fn files_are_listed_hidden_and_removed() {
    let directory = TempDir::new().unwrap();
    let server = Nudge::start(&directory, &["--registration", "open", "--rate-limits", "off"], &[]);
    let token = register(&server, "alice", PASSWORD);
    let upload = |text: &str| {
        let (status, answer) = server.post("/_matrix/media/v3/upload", Some(&token), &json!({ "file": text }));
        assert_eq!(status, 200, "{answer}");
        answer["content_uri"].as_str().unwrap().to_owned()
    };
    let [first, second, third] = ["one", "two", "three"].map(upload);
    let media = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["media"].iter().chain(arguments).copied().collect();
        nudge(&directory, &arguments, &[], "")
    };
    let status = |server: &Nudge, uri: &str| {
        let path = format!("/_matrix/client/v1/media/download/{}", uri.strip_prefix("mxc://").unwrap());
        server.get(&path, Some(&token)).0
    };
    let users = succeeded(&media(&["users"]));
    assert!(users.contains("3 files  @alice:localhost") && users.contains("of other servers"), "{users}");
    succeeded(&media(&["quarantine", &first]));
    succeeded(&media(&["protect", &second]));
    let listed = succeeded(&media(&["list", "alice"]));
    assert!(listed.lines().any(|line| line.contains(&first) && line.ends_with(" quarantined")), "{listed}");
    assert!(listed.lines().any(|line| line.contains(&second) && line.ends_with(" protected")), "{listed}");
    assert_eq!((status(&server, &first), status(&server, &second)), (404, 200), "beside the server, at once");
    succeeded(&media(&["unquarantine", &first]));
    assert_eq!(status(&server, &first), 200);
    assert!(succeeded(&media(&["quarantine", "--user", "alice"])).contains("2 files"));
    assert_eq!((status(&server, &second), status(&server, &third)), (200, 404));
    for refusal in [&["quarantine", "mxc://localhost/none"][..], &["quarantine", "nothing"]] {
        assert!(refused(&media(refusal)).contains("nudge: "));
    }
    assert!(refused(&media(&["delete", &third])).contains("in use"), "not beside the server");
    assert!(server.terminate().success());
    succeeded(&media(&["delete", &third]));
    assert!(succeeded(&media(&["prune-remote", "--unused-days", "30"])).contains("Deleted 0 files"));
    assert!(succeeded(&media(&["purge", "alice"])).contains("Deleted 1 files"));
    assert!(succeeded(&nudge(&directory, &["fsck"], &[], "")).contains("is consistent"));
    let server = Nudge::start(&directory, &["--rate-limits", "off"], &[]);
    assert_eq!([&first, &second, &third].map(|uri| status(&server, uri)), [404, 200, 404]);
}

#[test]
fn fsck_does_not_make_a_database() {
    let directory = TempDir::new().unwrap();
    assert!(refused(&nudge(&directory, &["fsck"], &[], "")).contains("there is no database"));
    assert!(!directory.path().join("data").exists());
}

#[test]
fn the_version_is_told() {
    let directory = TempDir::new().unwrap();
    assert_eq!(
        succeeded(&nudge(&directory, &["--version"], &[], "")),
        concat!("nudge ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
