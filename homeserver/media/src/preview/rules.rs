//! Which pages may be fetched: by default none.

use std::str::FromStr;

use url::Url;

/// A host, or all of them, and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// `None` is every host. A name stands for the hosts below it as well.
    host: Option<String>,
    port: Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// That of the protocol.
    Usual,
    One(u16),
    All,
}

/// What may be fetched. What is denied is denied, whatever else allows it.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What may be fetched; when empty, nothing.
    pub allow: Vec<HostRule>,
    /// What may not.
    pub deny: Vec<HostRule>,
}

impl FromStr for HostRule {
    type Err = ();

    /// `example.org`, `example.org:8443`, `example.org:*`, `*`, `*:*`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let after_address = text.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match text[after_address..].split_once(':') {
            Some((rest, port)) => (&text[..after_address + rest.len()], Some(port)),
            None => (text, None),
        };
        let port = match port {
            None => Ports::Usual,
            Some("*") => Ports::All,
            Some(port) => Ports::One(port.parse().map_err(|_| ())?),
        };
        if host == "*" {
            return Ok(Self { host: None, port });
        }
        // Parsed as a part of a URL, a name is written as URLs that were parsed have it.
        let url = Url::parse(&format!("https://{host}/")).map_err(|_| ())?;
        let plain =
            url.path() == "/" && url.port().is_none() && url.username().is_empty() && !host.contains(['/', '?', '#']);
        let host = url.host_str().filter(|_| plain).ok_or(())?;
        Ok(Self { host: Some(host.trim_end_matches('.').to_owned()), port })
    }
}

impl HostRule {
    fn covers(&self, url: &Url, any_port: bool) -> bool {
        let Some(host) = url.host_str().map(|host| host.trim_end_matches('.')) else { return false };
        let named = self.host.as_ref().is_none_or(|name| {
            host.strip_suffix(name.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        });
        named
            && match self.port {
                Ports::Usual => any_port || url.port().is_none(),
                Ports::One(port) => url.port_or_known_default() == Some(port),
                Ports::All => true,
            }
    }
}

impl Rules {
    /// Whether there is anything that may be fetched.
    pub fn allow_any(&self) -> bool {
        !self.allow.is_empty()
    }

    /// Whether this may be fetched. A rule without a port allows the usual one, and denies them all.
    pub fn allow(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && self.allow.iter().any(|rule| rule.covers(url, false))
            && !self.deny.iter().any(|rule| rule.covers(url, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> Rules {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Rules { allow: read(allow), deny: read(deny) }
    }

    #[test]
    fn s_090_what_may_be_fetched() {
        let table: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &[], "https://example.org/", false),
            (&["*"], &[], "https://example.org/a?b#c", true),
            (&["*"], &[], "http://example.org/", true),
            (&["*"], &[], "https://example.org:8443/", false),
            (&["*:*"], &[], "https://example.org:8443/", true),
            (&["example.org"], &[], "https://example.org/", true),
            (&["example.org"], &[], "https://EXAMPLE.org./", true),
            (&["example.org"], &[], "https://www.example.org/", true),
            (&["example.org"], &[], "https://badexample.org/", false),
            (&["example.org"], &[], "https://example.org.evil.test/", false),
            (&["example.org"], &[], "https://evil.test/?example.org", false),
            (&["example.org"], &[], "https://example.org@evil.test/", false),
            (&["*"], &[], "https://user:password@example.org/", false),
            (&["example.org:8443"], &[], "https://example.org:8443/", true),
            (&["example.org:8443"], &[], "https://example.org/", false),
            (&["*"], &["example.org"], "https://example.org/", false),
            (&["*:*"], &["example.org"], "https://sub.example.org:8443/", false),
            (&["example.org"], &["example.org"], "https://example.org/", false),
            (&["*"], &["b\u{fc}cher.example"], "https://xn--bcher-kva.example/", false),
            (&["xn--bcher-kva.example"], &[], "https://b\u{fc}cher.example/", true),
            (&["*"], &["127.0.0.1"], "https://0x7f.1/", false),
            (&["*:*"], &[], "file:///etc/passwd", false),
            (&["*:*"], &[], "data:text/html,x", false),
            (&["*:*"], &[], "ftp://example.org/", false),
            (&["*"], &["[::1]"], "https://[0:0::1]/", false),
        ];
        for (allow, deny, url, expected) in table {
            let verdict = Url::parse(url).is_ok_and(|url| rules(allow, deny).allow(&url));
            assert_eq!(verdict, *expected, "{allow:?} {deny:?} {url}");
        }
        for wrong in ["", "a/b", "a b", "example.org:x", "example.org:99999", "user@example.org", "https://example.org"]
        {
            assert!(wrong.parse::<HostRule>().is_err(), "{wrong}");
        }
    }
}
