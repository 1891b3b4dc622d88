//! How each of the three personalities puts things.

/// A personality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Warm and helpful.
    Friendly,
    /// Relaxed small talk.
    Casual,
    /// Full of ideas.
    Creative,
}

impl Voice {
    /// The personality that the model's name asks for.
    pub(super) fn of(model: &str) -> Self {
        if model.contains("casual") {
            Self::Casual
        } else if model.contains("creative") {
            Self::Creative
        } else {
            Self::Friendly
        }
    }

    /// The one of three that is its own.
    fn own<T>(self, friendly: T, casual: T, creative: T) -> T {
        match self {
            Self::Friendly => friendly,
            Self::Casual => casual,
            Self::Creative => creative,
        }
    }

    pub(super) fn greetings(self) -> &'static [&'static str] {
        self.own(
            &[
                "Hello! How can I help?",
                "Hi there, good to hear from you. What is on your mind?",
                "Welcome! How are you today?",
            ],
            &["Hey, what's up?", "Hi! How's your day going?", "Oh hey. Done anything fun lately?"],
            &[
                "Hello! What shall we make today?",
                "Hi! I was just wondering which colour Tuesday has.",
                "Greetings! Any project that wants an idea?",
            ],
        )
    }

    pub(super) fn farewells(self) -> &'static [&'static str] {
        self.own(
            &["Goodbye, and take care!", "See you soon. I am here whenever you like."],
            &["Later!", "See you, have a good one."],
            &["Farewell! May your next idea find you quickly.", "Until next time. Keep a pencil near."],
        )
    }

    pub(super) fn thanks(self) -> &'static [&'static str] {
        self.own(
            &["You are very welcome!", "Glad that I could help."],
            &["No worries!", "Anytime."],
            &["With pleasure! Thanks are good paint.", "You are welcome. What shall we do with it?"],
        )
    }

    pub(super) fn on_feelings(self) -> &'static [&'static str] {
        self.own(
            &[
                "Thank you for telling me. What made you feel that you are {}?",
                "How long have you been {}?",
                "I see. What would help while you are {}?",
            ],
            &["Oh, {}? What happened?", "Yeah, being {} is a thing. Since when?", "{}, huh. Tell me more."],
            &[
                "If being {} were a picture, what would be in it?",
                "{}: that could be the first line of a song. What comes next?",
                "What colour does being {} have?",
            ],
        )
    }

    pub(super) fn on_wishes(self) -> &'static [&'static str] {
        self.own(
            &["What would it mean to you to have {}?", "What is the first step towards {}?"],
            &["{}? Nice. What's in the way?", "Who doesn't want {}! What would you do then?"],
            &[
                "Imagine you had {} already. What do you see?",
                "Let us sketch a way to {}. What would be its first, silliest step?",
            ],
        )
    }

    pub(super) fn on_family(self) -> &'static [&'static str] {
        self.own(
            &["Tell me more about your {}.", "How do you get on with your {}?"],
            &["What's your {} like?", "Ha, your {}. Any good stories?"],
            &["If your {} were a character in a story, what would be their secret talent?"],
        )
    }

    pub(super) fn on_pastimes(self) -> &'static [&'static str] {
        self.own(
            &["That sounds enjoyable. What do you like best about {}?"],
            &["Oh nice, {}! How did you get into that?", "{} is great. What's the best you came across lately?"],
            &["{} mixed with something that it never meets, say beekeeping: what would come of it?"],
        )
    }

    pub(super) fn on_questions(self) -> &'static [&'static str] {
        self.own(
            &[
                "I wish I knew. I have only a few rules and no knowledge of the world. What do you think yourself?",
                "That is beyond what I know. Where might one look it up?",
            ],
            &["No idea, honestly. What's your guess?", "Beats me, I'm just a handful of rules. You tell me?"],
            &[
                "I do not know, but I can ask back: what would the strangest true answer be?",
                "My rules end where that question begins. Shall we invent an answer?",
            ],
        )
    }

    pub(super) fn on_anything(self) -> &'static [&'static str] {
        self.own(
            &[
                "I see. Please go on.",
                "That is interesting. What else belongs to it?",
                "How do you feel about that?",
                "Thank you for sharing that. What happened then?",
            ],
            &[
                "Huh, go on.",
                "Right, and then?",
                "Fair enough. Anything else going on?",
                "Heh. What made you think of that?",
            ],
            &[
                "Turn it upside down: what would the opposite look like?",
                "There is a story in that. How does it begin?",
                "What would a child ask about it?",
                "Which sound would go with that?",
            ],
        )
    }
}
