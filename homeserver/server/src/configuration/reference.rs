//! The example file and the reference page, written from the table of settings.

use std::fmt::Write;

use super::settings::{SECTIONS, SETTINGS, Setting};

/// A configuration file in which everything but the server's name is commented out.
pub fn example() -> String {
    let mut text = String::from(
        "# The configuration of Nudge. Start it with: nudge --config FILE\n\
         # Lines that start with # show a value; remove the # to set it. `nudge config check` says whether it is right.\n",
    );
    for (section, title, settings) in sections() {
        let _ = write!(text, "\n# ---- {title} ----\n");
        if !section.is_empty() {
            let _ = writeln!(text, "[{section}]");
        }
        settings.for_each(|setting| write_example(&mut text, setting));
    }
    text
}

fn write_example(text: &mut String, setting: &Setting) {
    text.push('\n');
    for line in setting.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let (_, name) = setting.section_and_name();
    let required = if setting.key == "server_name" { "" } else { "# " };
    let _ = writeln!(text, "{required}{name} = {}", setting.example);
}

/// The page for operators, as Markdown.
pub fn page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Written by `nudge config reference`; a test compares. Change homeserver/server/src/configuration/settings.rs instead. -->\n\n\
         Each setting can be given as a flag (the most common ones), as an environment variable, or in a TOML file named by \
         `--config FILE` or `NUDGE_CONFIG`. A flag wins over the environment, the environment over the file, and the file \
         over the default. Lists in flags and variables are separated by commas, tables are written `NAME=VALUE,NAME=VALUE`. \
         A name that does not exist is an error.\n\n\
         `nudge config example` prints a file to start from, `nudge config check` says what is wrong with one.\n\n\
         Without a file the server starts for development: it is called `localhost`, registration is open as long as `listen` \
         is an address of this machine only, and other servers are reached on this machine.\n",
    );
    for (section, title, settings) in sections() {
        let _ = write!(text, "\n## {title}\n");
        if !section.is_empty() {
            let _ = write!(text, "\nSection `[{section}]`.\n");
        }
        settings.for_each(|setting| write_entry(&mut text, setting));
    }
    text
}

fn write_entry(text: &mut String, setting: &Setting) {
    let _ = write!(text, "\n### `{}`\n\n", setting.key);
    for line in setting.lines() {
        let _ = writeln!(text, "{line}");
    }
    let default = if setting.default.is_empty() { "none".to_owned() } else { format!("`{}`", setting.default) };
    let _ = write!(text, "\n- Value: {}\n- Default: {default}\n- Example: `{}`\n", setting.shape, setting.example);
    let _ = writeln!(text, "- Variable: `{}`", setting.variable());
    if let Some(flag) = setting.flag {
        let _ = writeln!(text, "- Flag: `--{} {}`", flag.name, flag.value_name);
    }
}

fn sections() -> impl Iterator<Item = (&'static str, &'static str, impl Iterator<Item = &'static Setting>)> {
    SECTIONS.iter().map(|(section, title)| {
        let settings = SETTINGS.iter().filter(move |setting| setting.section_and_name().0 == *section);
        (*section, *title, settings)
    })
}
