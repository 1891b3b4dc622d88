//! What a model wrote, as the HTML that clients show. Nothing of it is trusted: its HTML is shown as text, and its links
//! lead to web and mail only.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Most characters of a reply. Longer ones are cut.
pub(crate) const REPLY_LENGTH_MAX: usize = 5000;

/// Cuts to the longest reply, at a character.
pub(crate) fn cut(text: &str) -> &str {
    let text = text.trim();
    match text.char_indices().nth(REPLY_LENGTH_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The HTML of a text, or `None` where plain text says the same.
pub(crate) fn formatted(text: &str) -> Option<String> {
    let mut is_plain = true;
    let mut links: Vec<bool> = Vec::new();
    let events = Parser::new_ext(text, Options::ENABLE_STRIKETHROUGH).filter_map(|event| {
        is_plain &= matches!(
            event,
            Event::Text(_) | Event::SoftBreak | Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph)
        );
        safe(event, &mut links)
    });
    let mut formatted = String::new();
    html::push_html(&mut formatted, events);
    let formatted = formatted.trim().to_owned();
    (!is_plain && !formatted.is_empty()).then_some(formatted)
}

/// The same, with what may do harm shown as text or left out.
fn safe<'a>(event: Event<'a>, links: &mut Vec<bool>) -> Option<Event<'a>> {
    match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::SoftBreak => Some(Event::HardBreak),
        // A picture would be loaded by whoever reads; its words are enough.
        Event::Start(Tag::Image { .. } | Tag::HtmlBlock) | Event::End(TagEnd::Image | TagEnd::HtmlBlock) => None,
        Event::Start(Tag::Link { link_type, dest_url, id, .. }) => {
            let is_safe = leads_somewhere_safe(&dest_url);
            links.push(is_safe);
            let title = CowStr::Borrowed("");
            is_safe.then_some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
        }
        Event::End(TagEnd::Link) => links.pop().unwrap_or(false).then_some(Event::End(TagEnd::Link)),
        event => Some(event),
    }
}

fn leads_somewhere_safe(url: &str) -> bool {
    let url = url.to_ascii_lowercase();
    ["https://", "http://", "mailto:"].iter().any(|scheme| url.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::{REPLY_LENGTH_MAX, cut, formatted};

    #[test]
    fn plain_words_need_no_html() {
        assert_eq!(formatted("Hello there, how are you?"), None);
        assert_eq!(formatted("one\ntwo"), None);
    }

    #[test]
    fn markdown_becomes_html() {
        assert_eq!(formatted("**yes** and `x < 1`").unwrap(), "<p><strong>yes</strong> and <code>x &lt; 1</code></p>");
        assert!(formatted("- a\n- b").unwrap().contains("<li>a</li>"));
    }

    #[test]
    fn html_of_a_model_is_shown_and_not_obeyed() {
        let html = formatted("**x** <script>alert(1)</script> <img src=x onerror=y>").unwrap();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        let html = formatted("<div onclick=\"x\">\nhello\n</div>\n\n*a*").unwrap();
        assert!(!html.contains("<div"), "{html}");
    }

    #[test]
    fn links_lead_to_the_web_and_pictures_are_not_loaded() {
        let html =
            formatted("[a](javascript:alert(1)) [b](https://x.test/) ![c](https://evil.test/pixel.png)").unwrap();
        assert!(html.contains("<a href=\"https://x.test/\">b</a>"), "{html}");
        assert!(!html.contains("javascript") && !html.contains("pixel"), "{html}");
        assert_eq!(html.matches("</a>").count(), 1);
    }

    #[test]
    fn long_replies_are_cut_at_a_character() {
        assert_eq!(cut(&"\u{e9}".repeat(REPLY_LENGTH_MAX + 1)).chars().count(), REPLY_LENGTH_MAX);
    }
}
