//! What a service is interested in: patterns of user ids, aliases and room ids.
//!
//! A pattern has to match the whole of an identifier. Its engine takes time linear in the identifier's length, whatever
//! the pattern, and knows no look-ahead and no back-references.

use regex::bytes::{Regex, RegexBuilder};

/// What one compiled pattern may take in memory. Those of bridges take some kilobytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// A pattern.
#[derive(Clone, Debug)]
pub struct Namespace {
    pattern: Regex,
    exclusive: bool,
}

impl Namespace {
    /// A pattern, and whether nobody but the service may make what it matches. The error is a text for operators.
    pub fn new(pattern: &str, exclusive: bool) -> Result<Self, String> {
        // Checked alone first: what closes the group around it would be a pattern of another meaning.
        compile(pattern)?;
        Ok(Self { pattern: compile(&format!("^(?:{pattern})$"))?, exclusive })
    }

    /// Whether an identifier is matched.
    pub fn matches(&self, identifier: &str) -> bool {
        self.pattern.is_match(identifier.as_bytes())
    }

    /// Whether nobody else may make what it matches.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    // Identifiers are nearly always ASCII, and the tables of Unicode would be a megabyte of the binary.
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::Syntax(text) => {
            // The last line says what is wrong; those before draw where.
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
        regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::Namespace;

    fn matches(pattern: &str, identifier: &str) -> bool {
        Namespace::new(pattern, true).unwrap().matches(identifier)
    }

    #[test]
    fn s_107_patterns_match_whole_identifiers() {
        assert!(matches("@_irc_.*", "@_irc_bob:example.org"));
        assert!(matches(r"^@telegram_\d+:example\.org$", "@telegram_42:example.org"));
        assert!(matches("@a:b|@c:d", "@c:d"));
        for (pattern, identifier) in [
            ("@_irc_.*", "x@_irc_bob:example.org"),
            ("@bob:example.org", "@bob:example.org.evil"),
            ("@a:b|@c:d", "@a:bc"),
            ("_irc_.*", "@evil_irc_bob:example.org"),
            ("@_irc_[a-z]+:example\\.org", "@_irc_bob:exampleXorg"),
        ] {
            assert!(!matches(pattern, identifier), "{pattern} {identifier}");
        }
    }

    #[test]
    fn s_107_explosive_and_broken_patterns() {
        let identifier = format!("@{}:example.org", "a".repeat(200));
        assert!(!matches("@(a+)+b", &identifier));
        for pattern in ["@(", "@(?!bob).*", "a)|(b", r"(a)\1", "(((.{1000}){1000}){1000})", "*"] {
            let error = Namespace::new(pattern, true).unwrap_err();
            assert!(!error.is_empty(), "{pattern}");
        }
    }
}
