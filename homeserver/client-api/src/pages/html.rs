//! How the pages look: one column, no images, no scripts but one, whose text is known.

use std::fmt::Write as _;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ruma::api::{BytesBody, OutgoingResponse, error::IntoHttpError};

/// Tells the client that opened the page that the stage is done, as the specification says.
const DONE: &str = "if(window.onAuthDone){window.onAuthDone()}else if(window.opener&&window.opener.postMessage){\
                    window.opener.postMessage(\"authDone\",\"*\")}";

/// The SHA-256 of that script, by which browsers know it.
const DONE_HASH: &str = "sha256-FqFbwG7fjoZV7bBMz61s/50anPoWoZpHkiff+Lt+AgE=";

/// Hands a session over to the client that opened the page, as the specification says.
const LOGGED_IN: &str = "if(window.matrixLogin&&window.matrixLogin.onLogin){window.matrixLogin.onLogin(\
                         JSON.parse(document.getElementById(\"session\").textContent))}";

/// Its SHA-256.
const LOGGED_IN_HASH: &str = "sha256-b8leGWc4VnkyKf1kkaeo/8JAFWAjzjOCNQzBj27KJ9g=";

/// A form with one button.
pub(super) struct Form<'a> {
    pub(super) action: &'a str,
    pub(super) hidden: &'a [(&'a str, &'a str)],
    /// The label of a field for a user's name.
    pub(super) user: Option<&'a str>,
    /// The label of a field for a secret.
    pub(super) secret: Option<&'a str>,
    pub(super) button: &'a str,
}

/// A page.
pub(crate) struct Page {
    status: StatusCode,
    body: String,
}

/// A page of one paragraph, and perhaps a form.
pub(super) fn page(status: StatusCode, title: &str, text: &str, form: Option<&Form<'_>>) -> Page {
    Page { status, body: document(title, text, &form.map_or_else(String::new, written)) }
}

/// A page that tells the client that the stage is done.
pub(super) fn done(title: &str, text: &str) -> Page {
    Page { status: StatusCode::OK, body: document(title, text, &format!("<script>{DONE}</script>")) }
}

/// A page that hands a session over to the client. Its JSON is data, not script, and cannot end the element it is in.
pub(super) fn logged_in(title: &str, text: &str, session: &serde_json::Value) -> Page {
    let session = session.to_string().replace('<', "\\u003c");
    let rest =
        format!("<script type=\"application/json\" id=\"session\">{session}</script><script>{LOGGED_IN}</script>");
    Page { status: StatusCode::OK, body: document(title, text, &rest) }
}

/// A page with a link. Where it leads is the client's wish, so people see it before they go there.
pub(super) fn link(title: &str, text: &str, target: &str) -> Page {
    let target = escaped(target);
    let link = format!("<p><a rel=\"noreferrer\" href=\"{target}\">{target}</a></p>");
    Page { status: StatusCode::OK, body: document(title, text, &link) }
}

fn written(form: &Form<'_>) -> String {
    let mut html = format!("<form method=\"post\" action=\"{}\">", escaped(form.action));
    for (name, value) in form.hidden {
        let (name, value) = (escaped(name), escaped(value));
        let _ = write!(html, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
    }
    if let Some(label) = form.user {
        let label = escaped(label);
        let _ = write!(html, "<label>{label} <input name=\"user\" autocapitalize=\"none\" required></label> ");
    }
    if let Some(label) = form.secret {
        let label = escaped(label);
        let _ = write!(html, "<label>{label} <input type=\"password\" name=\"secret\" required></label> ");
    }
    let _ = write!(html, "<button>{}</button></form>", escaped(form.button));
    html
}

/// `rest` is HTML already.
fn document(title: &str, text: &str, rest: &str) -> String {
    let (title, text) = (escaped(title), escaped(text));
    format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"></head>\
         <body><main><h1>{title}</h1><p>{text}</p>{rest}</main></body></html>"
    )
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

impl Page {
    fn headers() -> HeaderMap {
        let policy = format!(
            "default-src 'none'; script-src '{DONE_HASH}' '{LOGGED_IN_HASH}'; frame-ancestors 'none'; base-uri 'none'"
        );
        let policy = HeaderValue::try_from(policy).expect("the policy is printable ASCII");
        let fixed = |name: HeaderName, value| (name, HeaderValue::from_static(value));
        HeaderMap::from_iter([
            fixed(header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, policy),
            fixed(header::REFERRER_POLICY, "no-referrer"),
            fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            fixed(header::X_FRAME_OPTIONS, "DENY"),
        ])
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = Self::headers();
        response
    }
}

impl OutgoingResponse for Page {
    type Body = BytesBody;

    fn try_into_http_response_inner(self) -> Result<http::Response<BytesBody>, IntoHttpError> {
        let mut response = http::Response::new(BytesBody(self.body.into_bytes()));
        *response.status_mut() = self.status;
        *response.headers_mut() = Self::headers();
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn browsers_run_the_one_script_and_nothing_that_was_sent_to_us() {
        // The header holds the digest in base 64; compared without a crate for that: its first bytes.
        let digest = Sha256::digest(DONE.as_bytes());
        assert_eq!(digest[..3], [0x16, 0xa1, 0x5b], "the script and its digest belong together: {DONE_HASH}");
        let digest = Sha256::digest(LOGGED_IN.as_bytes());
        assert_eq!(digest[..3], [0x6f, 0xc9, 0x5e], "the script and its digest belong together: {LOGGED_IN_HASH}");
        let Page { body, .. } = logged_in("a", "b", &serde_json::json!({ "a": "</script><script>alert(1)</script>" }));
        assert_eq!(body.matches("</script>").count(), 2, "{body}");
        let html = document(
            "<b>",
            "\"'&",
            &written(&Form {
                action: "\"><script>",
                hidden: &[("a", "\"><script>alert(1)</script>")],
                user: None,
                secret: None,
                button: "Go",
            }),
        );
        assert!(!html.contains("<script>") && !html.contains("<b>"), "{html}");
    }
}
