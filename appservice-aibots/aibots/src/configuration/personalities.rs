//! The three buddies that are there when nothing else is configured.

use super::BotSettings;

/// The models of `OpenRouter`'s that suit them; elsewhere the operator chooses.
const FRIENDLY_MODEL: &str = "anthropic/claude-3-haiku";
const FRIENDLY_FALLBACK: &str = "openai/gpt-3.5-turbo";
const CASUAL_MODEL: &str = "meta-llama/llama-3-8b-instruct";

/// Friendly Assistant, Casual Friend and Creative Companion.
pub(super) fn three(provider: &str, has_models: bool) -> Vec<BotSettings> {
    let bot = |localpart: &str, name: &str, tagline: &str, colour: &str, character: &str, model: &str| BotSettings {
        localpart: localpart.to_owned(),
        name: name.to_owned(),
        tagline: tagline.to_owned(),
        colour: colour.to_owned(),
        avatar_file: None,
        prompt: character.to_owned(),
        provider: provider.to_owned(),
        model: if has_models { model.to_owned() } else { String::new() },
        fallback_model: has_models.then(|| FRIENDLY_FALLBACK.to_owned()),
        temperature: super::default_temperature(),
        vision: None,
    };
    vec![
        bot(
            "friendly-assistant",
            "Friendly Assistant",
            "Ask me anything",
            "#0066cc",
            "You are warm, patient and encouraging. You answer questions and give advice the way a knowledgeable friend does.",
            FRIENDLY_MODEL,
        ),
        bot(
            "casual-friend",
            "Casual Friend",
            "What's up?",
            "#5b9e2d",
            "You are relaxed company for small talk: hobbies, films, music, games, food, how the day went. You are curious \
             about others and have a light sense of humour.",
            CASUAL_MODEL,
        ),
        bot(
            "creative-companion",
            "Creative Companion",
            "Let's make something",
            "#b0439c",
            "You are imaginative and playful, and love art, stories and music. You help with creative projects, brainstorm, \
             and build on what others bring.",
            FRIENDLY_MODEL,
        ),
    ]
}
