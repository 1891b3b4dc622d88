//! What is wrong with a configuration: the setting, the value seen, and what to do.

use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, such as `--listen`.
    Flag(String),
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => formatter.write_str(name),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Default => formatter.write_str("the default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, such as `federation.listen`.
    pub setting: String,
    /// Where its value came from.
    pub origin: Origin,
    /// The value; `None` when it is missing or secret.
    pub seen: Option<String>,
    /// What is wrong with it and what to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.setting)?;
        if let Some(seen) = &self.seen {
            write!(formatter, " = {seen}")?;
        }
        if self.origin != Origin::Default {
            write!(formatter, " (from {})", self.origin)?;
        }
        write!(formatter, ": {}", self.advice)
    }
}

/// All that is wrong: at least one problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, setting: &str, origin: Origin, seen: Option<String>, advice: impl Into<String>) {
        self.0.push(Problem { setting: setting.to_owned(), origin, seen, advice: advice.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration cannot be used")?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  - {problem}"))
    }
}

impl std::error::Error for Problems {}
