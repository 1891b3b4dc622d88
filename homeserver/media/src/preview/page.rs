//! Reading a page: its Open Graph properties, or else its title and description, and where it describes itself by oEmbed.
//!
//! The page is read tag by tag, without building a tree, so that depth costs nothing.

use std::collections::BTreeMap;

use encoding_rs::{Encoding, UTF_8};
use html5gum::{DefaultEmitter, HtmlString, StartTag, Token, Tokenizer};
use serde::Deserialize;
use url::Url;

/// The most properties of a page.
const PROPERTIES_MAX: usize = 40;
/// The longest value, in characters; titles and descriptions are shorter, or are cut.
const VALUE_MAX_CHARS: usize = 1_000;
/// The longest name of a property, in bytes.
const NAME_MAX_BYTES: usize = 60;
/// Where a page names its charset at the latest, in bytes.
const CHARSET_WITHIN_BYTES: usize = 1024;
/// After so many tags there is nothing to be expected of a page any more.
const TAGS_MAX: usize = 20_000;

/// What a page says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// `og:...`, as text. There is no `og:image`.
    pub properties: BTreeMap<String, String>,
    /// The address of its image.
    pub image: Option<Url>,
    /// Where it describes itself by oEmbed.
    pub embedded: Option<Url>,
}

/// What a page says of itself by oEmbed: <https://oembed.com/>.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Embedded {
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Who made it.
    pub author_name: Option<String>,
    /// Where it comes from.
    pub provider_name: Option<String>,
    /// A smaller image of it.
    pub thumbnail_url: Option<String>,
    /// It itself, where it is an image.
    pub url: Option<String>,
}

/// Reads a page. `content_type` is the header that came with it.
pub fn read_page(body: &[u8], content_type: &str, address: &Url) -> Page {
    let (text, _, _) = charset(body, content_type).decode(body);
    let mut emitter = DefaultEmitter::default();
    // What stands in scripts and styles is no tag.
    emitter.naively_switch_states(true);
    let mut reading =
        Reading { address, page: Page::default(), title: String::new(), in_title: false, description: None };
    let mut tags = 0;
    for token in Tokenizer::new_with_emitter(&*text, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                tags += 1;
                if tags > TAGS_MAX {
                    break;
                }
                reading.tag(&tag);
            }
            Token::EndTag(tag) if *tag.name == b"title" => reading.in_title = false,
            Token::String(text) if reading.in_title => reading.title(&text.value),
            _ => {}
        }
    }
    reading.finish()
}

/// Reads what a page says of itself by oEmbed; `None` when that is not understood.
pub fn read_embedded(body: &[u8], page: &mut Page, address: &Url) -> Option<()> {
    let embedded: Embedded = serde_json::from_slice(body).ok()?;
    let mut add = |name: &str, value: Option<String>| {
        let value = value.as_deref().and_then(tidy);
        if let Some(value) = value {
            page.properties.entry(name.to_owned()).or_insert(value);
        }
    };
    add("og:title", embedded.title.or(embedded.author_name));
    add("og:site_name", embedded.provider_name);
    let photo = embedded.url.filter(|_| embedded.kind.as_deref() == Some("photo"));
    let image = photo.or(embedded.thumbnail_url).and_then(|url| address.join(&url).ok());
    page.image = page.image.take().or(image);
    Some(())
}

struct Reading<'a> {
    address: &'a Url,
    page: Page,
    title: String,
    in_title: bool,
    description: Option<String>,
}

impl Reading<'_> {
    fn tag(&mut self, tag: &StartTag<()>) {
        match &tag.name[..] {
            b"title" => self.in_title = self.title.is_empty() && !tag.self_closing,
            b"meta" => self.meta(tag),
            b"link" if attribute(tag, "type").is_some_and(|kind| kind == "application/json+oembed") => {
                let address = attribute(tag, "href").and_then(|href| self.address.join(&href).ok());
                self.page.embedded = self.page.embedded.take().or(address);
            }
            _ => {}
        }
    }

    fn meta(&mut self, tag: &StartTag<()>) {
        let Some(content) = attribute(tag, "content") else { return };
        let Some(name) = attribute(tag, "property").or_else(|| attribute(tag, "name")) else { return };
        match name.to_ascii_lowercase().as_str() {
            "description" => self.description = self.description.take().or_else(|| tidy(&content)),
            "og:image" | "og:image:url" | "og:image:secure_url" => {
                let image = self.address.join(content.trim()).ok();
                self.page.image = self.page.image.take().or(image);
            }
            // What is said of an image is about that on the other side, not about ours.
            name if name.starts_with("og:image") => {}
            name if name.starts_with("og:") && name.len() <= NAME_MAX_BYTES => {
                if self.page.properties.len() < PROPERTIES_MAX
                    && let Some(value) = tidy(&content)
                {
                    self.page.properties.entry(name.to_owned()).or_insert(value);
                }
            }
            _ => {}
        }
    }

    fn title(&mut self, text: &HtmlString) {
        if self.title.len() < VALUE_MAX_CHARS * 4 {
            self.title.push_str(&String::from_utf8_lossy(text));
        }
    }

    fn finish(self) -> Page {
        let mut page = self.page;
        for (name, value) in [("og:title", tidy(&self.title)), ("og:description", self.description)] {
            if let Some(value) = value {
                page.properties.entry(name.to_owned()).or_insert(value);
            }
        }
        page
    }
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(&value.value).into_owned())
}

/// A value in one line, without control characters, and not too long; `None` when nothing of it is left.
fn tidy(text: &str) -> Option<String> {
    let mut words = String::new();
    for word in text.split_whitespace() {
        if words.chars().count() > VALUE_MAX_CHARS {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.extend(word.chars().filter(|character| !character.is_control()).take(VALUE_MAX_CHARS));
    }
    let cut: String = words.chars().take(VALUE_MAX_CHARS).collect();
    (!cut.is_empty()).then_some(cut)
}

/// The charset: by the header, or by the page itself.
fn charset(body: &[u8], content_type: &str) -> &'static Encoding {
    let label = |text: &str| {
        let after = text.to_ascii_lowercase().split_once("charset")?.1.to_owned();
        let after = after.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']).to_owned();
        let label = after.split(['"', '\'', ';', '>', '/', ' ']).next()?;
        Encoding::for_label(label.as_bytes())
    };
    let start = &body[..body.len().min(CHARSET_WITHIN_BYTES)];
    label(content_type).or_else(|| label(&String::from_utf8_lossy(start))).unwrap_or(UTF_8)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn read(html: &str) -> Page {
        read_page(html.as_bytes(), "text/html", &Url::parse("https://example.org/a/page.html").unwrap())
    }

    #[test]
    fn open_graph_comes_first_and_titles_are_better_than_nothing() {
        let page = read(
            "<html><head><title>Title</title><meta property='og:title' content='The  Rock&amp;Co'>
             <meta property=og:image content=test.png><meta property='og:image:width' content=9999>
             <meta name=description content='What it is about'>
             <script>'<meta property=\"og:type\" content=\"script\">'</script>
             <link rel=alternate type=application/json+oembed href='/oembed?a=1&amp;b=2'></head>",
        );
        assert_eq!(page.properties["og:title"], "The Rock&Co");
        assert_eq!(page.properties["og:description"], "What it is about");
        assert_eq!(page.properties.len(), 2, "{page:?}");
        assert_eq!(page.image.unwrap().as_str(), "https://example.org/a/test.png");
        assert_eq!(page.embedded.unwrap().as_str(), "https://example.org/oembed?a=1&b=2");
        assert_eq!(read("<title>Only\n this</title>").properties["og:title"], "Only this");
        assert_eq!(read("nothing at all"), Page::default());
    }

    #[test]
    fn what_is_embedded_fills_the_gaps() {
        let address = Url::parse("https://example.org/oembed").unwrap();
        let mut page = read("<title>Title</title>");
        let body = br#"{"type":"photo","title":"Other","provider_name":"Photos","url":"/p.jpg","html":"<script>"}"#;
        read_embedded(body, &mut page, &address).unwrap();
        assert_eq!(page.properties["og:title"], "Title");
        assert_eq!(page.properties["og:site_name"], "Photos");
        assert_eq!(page.image.as_ref().unwrap().as_str(), "https://example.org/p.jpg");
        assert_eq!(read_embedded(b"<html>", &mut page, &address), None);
    }

    #[test]
    fn s_151_hostile_pages_cost_little_and_say_nothing() {
        let started = Instant::now();
        let nested = format!("{}<meta property=og:title content=deep>", "<div>".repeat(100_000));
        assert_eq!(read(&nested), Page::default(), "nobody looks that far");
        let bomb = format!("<!DOCTYPE html [<!ENTITY a \"{}\">]><title>&a;&a;</title>", "a".repeat(1000));
        read(&bomb);
        let many: Vec<_> = (0..10_000).map(|number| format!("<meta property='og:p{number}' content=x>")).collect();
        assert_eq!(read(&many.concat()).properties.len(), PROPERTIES_MAX);
        let long = format!("<meta property=og:title content='{}'>", "\u{1f414} ".repeat(100_000));
        assert_eq!(read(&long).properties["og:title"].chars().count(), VALUE_MAX_CHARS);
        read(&"<".repeat(500_000));
        read(&"<a ".repeat(200_000));
        read("<title>unfinished <!-- ");
        let refresh = read("<meta http-equiv=refresh content='0;url=http://127.0.0.1/'><title>Stays</title>");
        assert_eq!(refresh.properties["og:title"], "Stays");
        assert_eq!(read("<meta property=og:image content='http://['>").image, None);
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn s_151_charsets() {
        let address = Url::parse("https://example.org/").unwrap();
        let title = |body: &[u8], content_type: &str| {
            read_page(body, content_type, &address).properties.get("og:title").cloned()
        };
        let latin = b"<title>caf\xe9</title>";
        assert_eq!(title(latin, "text/html; charset=ISO-8859-1").as_deref(), Some("caf\u{e9}"));
        assert_eq!(title(b"<meta charset=windows-1252><title>caf\xe9</title>", "").as_deref(), Some("caf\u{e9}"));
        assert_eq!(title(latin, "text/html; charset=no-such").as_deref(), Some("caf\u{fffd}"));
        let wide: Vec<u8> = "\u{feff}<title>ok</title>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(title(&wide, "").as_deref(), Some("ok"));
    }
}
