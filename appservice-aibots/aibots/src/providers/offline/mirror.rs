//! What somebody said, turned back at them: `I lost my keys` becomes `you lost your keys`.

/// The longest that is repeated; nobody likes to hear their whole story again.
const WORDS_MAX: usize = 12;

const TURNED: &[(&str, &str)] = &[
    ("i", "you"),
    ("i'm", "you are"),
    ("i've", "you have"),
    ("i'd", "you would"),
    ("i'll", "you will"),
    ("me", "you"),
    ("my", "your"),
    ("mine", "yours"),
    ("myself", "yourself"),
    ("am", "are"),
    ("you", "I"),
    ("you're", "I am"),
    ("your", "my"),
    ("yours", "mine"),
    ("yourself", "myself"),
    ("we", "you"),
    ("our", "your"),
    ("us", "you"),
];

/// The first clause of the text, in the second person. `None` if nothing is left.
pub(super) fn mirrored(text: &str) -> Option<String> {
    let clause = text.split(['.', ',', '!', '?', ';', '\n', '(']).next().unwrap_or("");
    let turned: Vec<String> = clause
        .split_whitespace()
        .take(WORDS_MAX)
        .map(|word| {
            let lower = word.to_lowercase().replace('\u{2019}', "'");
            TURNED
                .iter()
                .find(|(said, _)| *said == lower)
                .map_or_else(|| word.to_owned(), |(_, back)| (*back).to_owned())
        })
        .collect();
    (!turned.is_empty()).then(|| turned.join(" "))
}
