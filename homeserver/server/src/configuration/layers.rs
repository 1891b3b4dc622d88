//! Flags over environment over file over defaults: who set which setting to what, before anything is typed.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path};

use super::{
    problem::{Origin, Problems},
    settings::{SETTINGS, Setting},
    value::{Raw, Value},
};

/// What the names of our environment variables start with.
const PREFIX: &str = "NUDGE_";

/// The variable that names the configuration file, which is not a setting.
pub const FILE_VARIABLE: &str = "NUDGE_CONFIG";

/// Variables of the project's own tests, which the servers that they start inherit.
const TEST_VARIABLES: &[&str] = &["NUDGE_TEST_", "NUDGE_BINARY", "NUDGE_KILL_ROUNDS"];

struct Given {
    raw: Raw,
    origin: Origin,
}

/// The strongest value of each setting.
#[derive(Default)]
pub(super) struct Layers(BTreeMap<&'static str, Given>);

impl Layers {
    /// Adds a default that depends on how the server was started.
    pub(super) fn add_default(&mut self, key: &'static str, text: &str) {
        self.0.insert(key, Given { raw: Raw::Text(text.to_owned()), origin: Origin::Default });
    }

    /// Adds the configuration file's values. A file that cannot be read at all is an error of its own: what else is
    /// wrong would only follow from it.
    pub(super) fn add_file(&mut self, path: &Path, problems: &mut Problems) -> Result<(), Problems> {
        let unreadable = |advice: String| {
            let mut problems = Problems::default();
            problems.add("the configuration file", Origin::File(path.to_owned()), None, advice);
            problems
        };
        let content = fs::read_to_string(path).map_err(|error| unreadable(format!("it cannot be read: {error}")))?;
        let table = content.parse::<toml::Table>().map_err(|error| {
            // Not the line itself: it may hold a secret.
            let line = content[..error.span().map_or(0, |span| span.start)].lines().count().max(1);
            unreadable(format!("line {line} is not TOML: {}", error.message()))
        })?;
        self.add_table(path, "", table, problems);
        Ok(())
    }

    fn add_table(&mut self, path: &Path, section: &str, table: toml::Table, problems: &mut Problems) {
        for (name, value) in table {
            let key = if section.is_empty() { name } else { format!("{section}.{name}") };
            let origin = Origin::File(path.to_owned());
            match value {
                value if find(&key).is_some() => self.add(&key, Raw::Toml(value), origin),
                toml::Value::Table(inner) if is_section(&key) => self.add_table(path, &key, inner, problems),
                value if is_section(&key) => {
                    let advice = format!("this is a section; write its settings below a line [{key}]");
                    problems.add(&key, origin, Some(value.to_string()), advice);
                }
                _ => problems.add(&key, origin, None, unknown(&key, |setting| setting.key.to_owned())),
            }
        }
    }

    /// Adds the environment's values: `NUDGE_FEDERATION__LISTEN` is `federation.listen`.
    pub(super) fn add_environment(&mut self, variables: &[(OsString, OsString)], problems: &mut Problems) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
            let origin = Origin::Environment(name.to_owned());
            if find(&key).is_none() {
                problems.add(name, Origin::Default, None, unknown(&key, Setting::variable));
            } else if let Some(value) = value.to_str() {
                self.add(&key, Raw::Text(value.to_owned()), origin);
            } else {
                problems.add(&key, origin, None, "the value is not UTF-8");
            }
        }
    }

    /// Adds the flags' values, by key.
    pub(super) fn add_flags(&mut self, flags: &[(&'static str, String)]) {
        for (key, value) in flags {
            let flag = find(key).and_then(|setting| setting.flag).map_or(*key, |flag| flag.name);
            self.add(key, Raw::Text(value.clone()), Origin::Flag(format!("--{flag}")));
        }
    }

    fn add(&mut self, key: &str, raw: Raw, origin: Origin) {
        let setting = find(key).expect("only known keys are added");
        self.0.insert(setting.key, Given { raw, origin });
    }

    /// Whether somebody set it.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|given| given.origin != Origin::Default)
    }

    /// Who set it.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.0.get(key).map_or(Origin::Default, |given| given.origin.clone())
    }

    /// The typed value; without one, a problem was added.
    pub(super) fn read<T: Value>(
        &self,
        key: &'static str,
        default: &'static str,
        problems: &mut Problems,
    ) -> Option<T> {
        if let Some(Given { raw, origin }) = self.0.get(key) {
            let seen = || Some(raw.seen()).filter(|_| !T::SECRET);
            return T::from_raw(raw).map_err(|advice| problems.add(key, origin.clone(), seen(), advice)).ok();
        }
        let value = if default.is_empty() { T::absent() } else { T::from_raw(&Raw::Text(default.to_owned())).ok() };
        if value.is_none() {
            problems.add(key, Origin::Default, None, format!("this has to be set; write {}", T::SHAPE));
        }
        value
    }
}

fn is_ours(variable: &str) -> bool {
    let of_tests = TEST_VARIABLES.iter().any(|beginning| variable.starts_with(beginning));
    variable.starts_with(PREFIX) && variable != FILE_VARIABLE && !of_tests
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn is_section(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// What to say about a name that nobody knows. `spell` writes a setting's name as the operator would here.
fn unknown(key: &str, spell: impl Fn(&Setting) -> String) -> String {
    let nearest = SETTINGS.iter().min_by_key(|setting| distance(key, setting.key)).map(spell).unwrap_or_default();
    format!("there is no such setting; did you mean {nearest}? `nudge config reference` lists all")
}

/// How many letters have to be inserted, removed or replaced (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut costs: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut costs[0], row + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = costs[column + 1];
            costs[column + 1] = replaced.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [("", "", 0), ("listen", "listen", 0), ("listne", "listen", 2), ("a", "bcd", 3)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
