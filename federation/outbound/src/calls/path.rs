//! Targets of requests. Whatever stands in an id, it cannot end the path, or the line.

use std::fmt::Write;

/// A path with its parameters encoded, and then a query.
pub(super) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// A path without parameters, or the part before the first.
    pub(super) fn new(path: &str) -> Self {
        Self { text: path.to_owned(), has_query: false }
    }

    /// Adds a segment that holds a value.
    pub(super) fn segment(mut self, value: &str) -> Self {
        self.text.push('/');
        self.encode(value);
        self
    }

    /// Adds a query parameter.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.encode(value);
        self
    }

    /// Path and query.
    pub(super) fn into_string(self) -> String {
        self.text
    }

    /// Everything but what RFC 3986 calls unreserved.
    fn encode(&mut self, value: &str) {
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => self.text.push(byte.into()),
                other => write!(self.text, "%{other:02X}").expect("writing to a string cannot fail"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_094_no_value_leaves_its_place() {
        let target = Target::new("/_matrix/x/v1")
            .segment("!a/../b?c#d%2f:example.org")
            .segment("$e\r\nHost: evil")
            .query("v", "&w=1 \u{e9}")
            .query("limit", "5");
        let text = target.into_string();
        assert_eq!(
            text,
            "/_matrix/x/v1/%21a%2F..%2Fb%3Fc%23d%252f%3Aexample.org/%24e%0D%0AHost%3A%20evil?v=%26w%3D1%20%C3%A9&limit=5"
        );
        assert!(text.parse::<http::uri::PathAndQuery>().is_ok());
    }
}
