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
    /// The personality that the name of the model asks for, or that of the bot.
    pub(super) fn of(model: &str, bot_name: &str) -> Self {
        let names = format!("{model} {bot_name}").to_lowercase();
        if names.contains("casual") {
            Self::Casual
        } else if names.contains("creative") {
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

    pub(super) fn moods(self) -> &'static [&'static str] {
        self.own(
            &[
                "All my rules are in order, thank you. How are you?",
                "As well as a program can be, thank you for asking. And you?",
            ],
            &["Can't complain, I'm a program. You?", "Same as always. What about you?"],
            &[
                "Somewhere between a blank page and the first line. And you?",
                "Humming along, if programs hum. What is your day's melody?",
            ],
        )
    }

    pub(super) fn jokes(self) -> &'static [&'static str] {
        self.own(
            &[
                "I would tell you a joke about UDP, but I could not be sure that you got it.",
                "There are two hard things in programming: naming things, counting, and off-by-one errors.",
            ],
            &[
                "I used to have a better memory. It was read-only, though.",
                "Why do programmers mix up Halloween and Christmas? Because OCT 31 is DEC 25.",
            ],
            &[
                "A pixel, a brush and a byte walk into a gallery. The byte says: I only see two of you.",
                "My last painting was all null. The critics called it pointless.",
            ],
        )
    }

    pub(super) fn makings(self) -> &'static [&'static str] {
        self.own(
            &[
                "I have too few rules to write one, but I can listen: how would yours begin?",
                "I cannot make one up without a language model. Shall we start with what it should be about?",
            ],
            &["Not my strong side, I'm just rules. You start, I'll nod along.", "You first! What's it about?"],
            &[
                "Here is a beginning: \"The lighthouse had been answering letters for years.\" What is in the first one?",
                "Rain taps on the glass,\na cursor blinks and waits long:\nyour line would come next.",
                "Take three things on your desk and let them argue about who is the oldest. Which three?",
            ],
        )
    }

    pub(super) fn on_calls(self) -> &'static [&'static str] {
        self.own(
            &["I am here! What can I do for you?", "Yes? I am listening."],
            &["Hey, hey, I'm awake! What's up?", "Ouch. OK, you have my attention."],
            &["A nudge! Is that a story knocking?", "You have woken the muse. What is it?"],
        )
    }

    pub(super) fn on_yes(self) -> &'static [&'static str] {
        self.own(
            &["Good. Would you tell me more about it?", "I am glad. What comes next?"],
            &["Nice. And?", "Cool. Go on then."],
            &[
                "Splendid! Then let us take it one step further: what is missing?",
                "Yes! And what if it were ten times as big?",
            ],
        )
    }

    pub(super) fn on_no(self) -> &'static [&'static str] {
        self.own(
            &["That is all right. What would you rather talk about?", "I see. What is it then?"],
            &["Fair enough. Something else then?", "OK, no it is. What's going on otherwise?"],
            &["A no is a good frame. What would you put into it instead?", "Then let us begin with what it is not."],
        )
    }

    pub(super) fn on_places(self) -> &'static [&'static str] {
        self.own(
            &["What do you like about {}?", "I only know {} by its name. What is it like there?"],
            &["Oh, {}! What's it like there?", "{}, nice. What do people do there on a Sunday?"],
            &["If {} were a sound, which one?", "How would you paint {} with three colours?"],
        )
    }

    pub(super) fn on_plans(self) -> &'static [&'static str] {
        self.own(
            &["What would it mean to you to {}?", "What would be the first step if you want to {}?"],
            &["To {}? Nice. What's in the way?", "So what keeps you from it? I mean, to {} sounds good."],
            &[
                "Imagine you get to {} tomorrow. What do you see first?",
                "To {}: what would be the silliest first step?",
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
                "Let us sketch a way to get {}. What would be its first, silliest step?",
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
