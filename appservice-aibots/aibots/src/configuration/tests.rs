//! What is configured, and what is refused.

use super::{Configuration, ConfigurationError};

fn read(more: &str) -> Result<Configuration, ConfigurationError> {
    let text = format!("[homeserver]\nurl = \"http://127.0.0.1:8008\"\nserver_name = \"example.org\"\n{more}");
    Configuration::completed(toml::from_str(&text).unwrap())
}

#[test]
fn without_bots_there_are_three_that_need_no_key() {
    let configuration = read("").unwrap();
    let names: Vec<&str> = configuration.bots.iter().map(|bot| bot.localpart.as_str()).collect();
    assert_eq!(names, ["friendly-assistant", "casual-friend", "creative-companion"]);
    assert!(configuration.bots.iter().all(|bot| bot.provider == "offline"));
    assert_eq!(configuration.user_id("casual-friend"), "@casual-friend:example.org");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let bot = "[[bots]]\nlocalpart = \"bo\"\nname = \"Bo\"\nprompt = \"Be kind.\"\n";
    for (more, setting) in [
        (format!("{bot}provider = \"nobody\""), "bots[0].provider"),
        (format!("{bot}provider = \"offline\"\n{bot}provider = \"offline\""), "bots[1].localpart"),
        (format!("{bot}provider = \"offline\"\ntemperature = 3.0"), "bots[0].temperature"),
        (format!("{bot}provider = \"offline\"\ncolour = \"blue\""), "bots[0].colour"),
        (format!("{bot}provider = \"x\"\n[providers.x]\nkind = \"anthropic\""), "bots[0].model"),
        ("[conversation]\nreplies_per_minute = 0".to_owned(), "conversation"),
    ] {
        match read(&more) {
            Err(ConfigurationError::Value { setting: found, .. }) => assert_eq!(found, setting),
            other => panic!("{more}: {other:?}"),
        }
    }
    assert!(read(&format!("{bot}provider = \"offline\"")).is_ok());
}
