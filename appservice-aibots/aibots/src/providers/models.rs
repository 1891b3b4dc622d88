//! What is to be known about a model before it is asked: how much it can read, and whether it can see.

use serde::Deserialize;

/// The context of a model about which nothing is known: what nearly every model in use has.
const CONTEXT_TOKENS_DEFAULT: u32 = 8_192;

/// Models that are known by a part of their name, the first that fits: context in tokens, and whether they see. Smaller
/// numbers than the truth only shorten what a bot remembers; larger ones make requests fail.
const KNOWN: &[(&str, u32, bool)] = &[
    ("claude", 200_000, true),
    ("gpt-3.5", 16_385, false),
    ("gpt-4o", 128_000, true),
    ("gpt-4.1", 1_000_000, true),
    ("gpt-4-turbo", 128_000, true),
    ("gpt-5", 272_000, true),
    ("gemini", 1_000_000, true),
    ("llava", 4_096, true),
    ("llama-3.1", 131_072, false),
    ("llama-3.2", 131_072, false),
    ("llama-3.3", 131_072, false),
    ("llama-3-", 8_192, false),
    ("mistral-large", 128_000, false),
];

/// What is special about a model. What the operator leaves out is guessed from its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelFacts {
    /// How many tokens its context has, answer included.
    pub context_tokens: Option<u32>,
    /// Whether it takes pictures.
    pub vision: Option<bool>,
}

impl ModelFacts {
    /// The context, as told or guessed.
    pub fn context_tokens(self, model: &str) -> u32 {
        self.context_tokens.unwrap_or_else(|| known(model).map_or(CONTEXT_TOKENS_DEFAULT, |(_, tokens, _)| *tokens))
    }

    /// Whether it takes pictures, as told or guessed.
    pub fn sees(self, model: &str) -> bool {
        self.vision.unwrap_or_else(|| known(model).is_some_and(|(_, _, sees)| *sees))
    }
}

fn known(model: &str) -> Option<&'static (&'static str, u32, bool)> {
    let model = model.to_ascii_lowercase();
    KNOWN.iter().find(|(part, _, _)| model.contains(part))
}

#[cfg(test)]
mod tests {
    use super::ModelFacts;

    #[test]
    fn the_operators_word_goes_before_the_guess() {
        let guess = ModelFacts::default();
        assert_eq!(guess.context_tokens("meta-llama/llama-3-8b-instruct"), 8_192);
        assert_eq!(guess.context_tokens("anthropic/claude-3-haiku"), 200_000);
        assert_eq!(guess.context_tokens("something-new"), 8_192);
        assert!(guess.sees("anthropic/claude-3-haiku"));
        assert!(!guess.sees("openai/gpt-3.5-turbo"));
        let told = ModelFacts { context_tokens: Some(4_096), vision: Some(false) };
        assert_eq!(told.context_tokens("claude"), 4_096);
        assert!(!told.sees("claude"));
    }
}
