//! How media are handed to browsers: what may be shown in place, and under which name.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content>

use std::fmt::Write;

/// Types that browsers may show in place: none of them can run scripts.
const INLINE: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// The policy for whatever a browser takes for a page.
pub const CONTENT_SECURITY_POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
                                           style-src 'unsafe-inline'; object-src 'self';";

/// What is served when nothing usable was said about the type.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The longest file name, in bytes: what file systems take.
const NAME_MAX_BYTES: usize = 255;
/// The longest content type. Real ones with all their parameters are shorter than 100.
const CONTENT_TYPE_MAX_BYTES: usize = 255;

/// A content type that can stand in a header; what cannot is replaced.
pub fn content_type(claimed: Option<&str>) -> &str {
    let visible =
        |text: &&str| text.len() <= CONTENT_TYPE_MAX_BYTES && text.bytes().all(|byte| matches!(byte, 32..=126));
    let claimed = claimed.map(str::trim).filter(|text| text.contains('/'));
    claimed.filter(visible).unwrap_or(OCTET_STREAM)
}

/// The `Content-Disposition` of content of a type, under the name that was given to it.
pub fn content_disposition(content_type: &str, filename: Option<&str>) -> String {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut text = if INLINE.contains(&essence.as_str()) { "inline" } else { "attachment" }.to_owned();
    let Some(name) = filename.and_then(safe_name) else { return text };
    let plain = |character: char| matches!(character, ' '..='~') && !matches!(character, '"' | '\\' | '%');
    let reduced: String = name.chars().map(|character| if plain(character) { character } else { '_' }).collect();
    let _ = write!(text, "; filename=\"{reduced}\"");
    if reduced != name {
        text.push_str("; filename*=utf-8''");
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
                other => {
                    let _ = write!(text, "%{other:02X}");
                }
            }
        }
    }
    text
}

/// The name in a `Content-Disposition` of another server.
pub fn filename(content_disposition: &str) -> Option<String> {
    let mut plain = None;
    for parameter in parameters(content_disposition) {
        let (key, value) = parameter.split_once('=')?;
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let (charset, encoded) = value.trim().trim_matches('"').split_once("''")?;
                return charset.eq_ignore_ascii_case("utf-8").then(|| percent_decoded(encoded));
            }
            "filename" => plain = Some(unquoted(value.trim())),
            _ => {}
        }
    }
    plain.filter(|name| !name.is_empty())
}

/// The parts after the first, split at semicolons that are not quoted.
fn parameters(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), None, false, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ';' if !quoted => {
                parts.extend(start.map(|start| &text[start..index]));
                start = Some(index + 1);
            }
            _ => {}
        }
    }
    parts.extend(start.map(|start| &text[start..]));
    parts.retain(|part: &&str| part.contains('='));
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            (byte == b'%').then(|| after.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name that neither leads anywhere nor reads other than it is; `None` when nothing of it is left.
pub fn safe_name(name: &str) -> Option<String> {
    let mut safe = String::new();
    for character in name.chars().filter(|character| !is_deceptive(*character)) {
        let character = if matches!(character, '/' | '\\') { '_' } else { character };
        if safe.len() + character.len_utf8() > NAME_MAX_BYTES {
            break;
        }
        safe.push(character);
    }
    let safe = safe.trim().trim_start_matches('.');
    (!safe.is_empty()).then(|| safe.to_owned())
}

/// Control characters, and those that turn the direction of a text, so that `exe.gpj` looks like `jpg.exe`.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_145_only_what_cannot_run_is_shown_in_place() {
        for inline in ["image/png", "IMAGE/PNG", "Text/Plain; charset=utf-8", "video/mp4", "application/json"] {
            assert_eq!(content_disposition(inline, None), "inline", "{inline}");
        }
        let attached = [
            "image/svg+xml",
            "text/html",
            "Text/HTML; charset=utf-8",
            "application/xhtml+xml",
            "text/xml",
            "application/pdf",
            "text/javascript",
            "application/octet-stream",
            "img/png",
            "image/png,text/html",
            "",
        ];
        for attached in attached {
            assert_eq!(content_disposition(attached, None), "attachment", "{attached}");
        }
        assert_eq!(content_type(Some("text/html\r\nX: y")), OCTET_STREAM);
        assert_eq!(content_type(Some("nonsense")), OCTET_STREAM);
        assert_eq!(content_type(Some(&format!("a/{}", "b".repeat(300)))), OCTET_STREAM);
        assert_eq!(content_type(Some("img/png")), "img/png");
    }

    #[test]
    fn s_145_names_stay_names() {
        let disposition = |name: &str| content_disposition("image/png", Some(name));
        assert_eq!(disposition("name;with;semicolons"), "inline; filename=\"name;with;semicolons\"");
        assert_eq!(disposition("a\r\nSet-Cookie: b"), "inline; filename=\"aSet-Cookie: b\"");
        assert_eq!(disposition("../../etc/passwd"), "inline; filename=\"_.._etc_passwd\"");
        assert_eq!(disposition("\u{2615}"), "inline; filename=\"_\"; filename*=utf-8''%E2%98%95");
        assert_eq!(disposition("a\"b\\c"), "inline; filename=\"a_b_c\"; filename*=utf-8''a%22b_c");
        assert_eq!(disposition("photo\u{202e}gpj.exe"), "inline; filename=\"photogpj.exe\"");
        assert_eq!(disposition(" \0.. "), "inline");
        assert!(disposition(&"a".repeat(10_000)).len() < 300);
        assert!(disposition(&"\u{2615}".repeat(10_000)).len() < 1_100);
        for name in ["ascii", "name with spaces", "a\"b", "\u{1f414}", "50%", "a;b=c"] {
            assert_eq!(filename(&disposition(name)).as_deref(), Some(name));
        }
        assert_eq!(filename("attachment; filename=plain.txt").as_deref(), Some("plain.txt"));
        assert_eq!(filename("inline; filename*=UTF-8''%E2%98%95; filename=x").as_deref(), Some("\u{2615}"));
        assert_eq!(filename("inline"), None);
        assert_eq!(filename("inline; filename=\"unfinished"), Some("\"unfinished".to_owned()));
    }
}
