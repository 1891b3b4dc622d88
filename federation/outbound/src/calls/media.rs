//! Media of other servers.
//!
//! Spec: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>

mod multipart;

use std::time::Duration;

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use reqwest::Url;
use ruma::ServerName;

use super::{CallError, Federation, path::Target};
use crate::{ByteStream, CallLimits};

/// A medium that is coming in.
pub struct RemoteMedia {
    /// What its server claims about its type.
    pub content_type: Option<String>,
    /// The name, in a header of its own grammar.
    pub content_disposition: Option<String>,
    /// The bytes.
    pub body: ByteStream,
}

impl Federation {
    /// Asks for a medium of that server, of at most so many bytes. It may wait for the medium to be uploaded.
    pub async fn download_media(
        &self,
        origin: &ServerName,
        media_id: &str,
        timeout: Duration,
        media_max_bytes: usize,
    ) -> Result<RemoteMedia, CallError> {
        let limits = CallLimits::media(media_max_bytes);
        let timeout_ms = timeout.as_millis().to_string();
        let target = Target::new("/_matrix/federation/v1/media/download").segment(media_id);
        match self.get_streamed(origin, target.query("timeout_ms", &timeout_ms), limits).await {
            Ok(answer) => self.read_parts(answer, limits).await,
            Err(error) if error.is_unknown_endpoint() || is_foreign(&error) => {
                self.download_unauthenticated(origin, media_id, &timeout_ms, limits).await
            }
            Err(error) => Err(error),
        }
    }

    /// The way that servers of 2024 and before know.
    async fn download_unauthenticated(
        &self,
        origin: &ServerName,
        media_id: &str,
        timeout_ms: &str,
        limits: CallLimits,
    ) -> Result<RemoteMedia, CallError> {
        let target = Target::new("/_matrix/media/v3/download").segment(origin.as_str()).segment(media_id);
        let target = target.query("allow_remote", "false").query("timeout_ms", timeout_ms);
        let answer = self.get_unsigned(origin, target.query("allow_redirect", "true"), limits).await?;
        if answer.status().is_redirection() {
            let location = text(answer.headers(), &LOCATION);
            return self.follow(location.as_deref(), limits).await;
        }
        let (head, body) = answer.into_parts();
        Ok(described(&head.headers, body))
    }

    async fn read_parts(
        &self,
        answer: http::Response<ByteStream>,
        limits: CallLimits,
    ) -> Result<RemoteMedia, CallError> {
        let (head, body) = answer.into_parts();
        let content_type = text(&head.headers, &CONTENT_TYPE).unwrap_or_default();
        let (headers, body) = multipart::second_part(&content_type, body).await.map_err(CallError::Malformed)?;
        match text(&headers, &LOCATION) {
            Some(location) => self.follow(Some(&location), limits).await,
            None => Ok(described(&headers, body)),
        }
    }

    /// Fetches a medium from where its server says that it lies.
    async fn follow(&self, location: Option<&str>, limits: CallLimits) -> Result<RemoteMedia, CallError> {
        let url = location.and_then(|location| Url::parse(location).ok());
        let url = url.ok_or_else(|| CallError::Malformed("the location is no URL".to_owned()))?;
        let (_, answer) = self.web().get(&url, &is_place_of_files, limits).await?;
        let (head, body) = answer.into_parts();
        Ok(described(&head.headers, body))
    }
}

/// Whether it was no Matrix server that refused: what stands before an old one may answer to a new path as it likes.
fn is_foreign(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 400..=499, errcode: None, .. })
}

/// Whether files may lie there: at the port of websites or of Matrix servers, so that nobody has us try other ports.
fn is_place_of_files(url: &Url) -> bool {
    url.scheme() == "https" && matches!(url.port(), None | Some(8448))
}

fn described(headers: &HeaderMap, body: ByteStream) -> RemoteMedia {
    RemoteMedia {
        content_type: text(headers, &CONTENT_TYPE),
        content_disposition: text(headers, &CONTENT_DISPOSITION),
        body,
    }
}

/// Names in headers are UTF-8 with some servers.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
