//! Pages and files of whatever servers.

use std::sync::Arc;

use http::header::LOCATION;
use reqwest::Url;

use super::{CallError, Federation};
use crate::{ByteStream, CallLimits, Transport};

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;

/// Asks for pages and files of whatever servers, without saying who asks. Cloning shares it.
#[derive(Clone)]
pub struct Web {
    transport: Arc<dyn Transport>,
}

impl Federation {
    /// Calls that are no Matrix.
    pub fn web(&self) -> Web {
        Web { transport: Arc::clone(&self.inner.transport) }
    }
}

impl Web {
    /// Asks for what is at an address. Each address on the way is judged by `allowed`, and none may be less well
    /// protected than the one before, or at another port but the usual one. Returns where it was found.
    pub async fn get(
        &self,
        url: &Url,
        allowed: &(dyn Fn(&Url) -> bool + Send + Sync),
        limits: CallLimits,
    ) -> Result<(Url, http::Response<ByteStream>), CallError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            if !allowed(&url) {
                return Err(CallError::Denied("the address is not allowed".to_owned()));
            }
            let answer = self.transport.fetch(url.as_str(), limits).await?;
            if answer.status().is_success() {
                return Ok((url, answer));
            }
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            match location.filter(|_| answer.status().is_redirection()).and_then(|location| url.join(location).ok()) {
                Some(next) if may_follow(&url, &next) => url = next,
                Some(_) => return Err(CallError::Denied("redirected to another protocol or port".to_owned())),
                None => {
                    let status = answer.status().as_u16();
                    return Err(CallError::Refused { status, errcode: None, error: None, room_version: None });
                }
            }
        }
        Err(CallError::Denied("too many redirects".to_owned()))
    }
}

fn may_follow(from: &Url, to: &Url) -> bool {
    let protocol = to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http");
    let port = to.port().is_none() || to.port_or_known_default() == from.port_or_known_default();
    protocol && port && to.username().is_empty() && to.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_089_where_a_redirect_may_lead() {
        let follow = |from: &str, to: &str| {
            let from = Url::parse(from).unwrap();
            from.join(to).is_ok_and(|to| may_follow(&from, &to))
        };
        for to in ["/b", "https://other.test/", "http://other.test/", "//other.test"] {
            assert!(follow("http://example.org/a", to), "{to}");
        }
        assert!(follow("https://example.org:8443/a", "https://other.test:8443/"));
        let refused =
            ["http://example.org/", "https://example.org:22/", "file:///etc/passwd", "data:text/html,x", "ftp://a/"];
        for to in refused {
            assert!(!follow("https://example.org/a", to), "{to}");
        }
        assert!(!follow("https://example.org/a", "https://user:password@example.org/"));
    }
}
