//! The names that are ours on the wire. Whoever does not know them sees an ordinary message, room or profile.

/// A flag in the content of a message: it is a nudge. Its body says so in words.
pub(crate) const NUDGE: &str = "chat.nudge.nudge";

/// In the content of everything a bot says: which bot, what it answers, and how far it is from a human (`hop`).
pub(crate) const AI: &str = "chat.nudge.ai";

/// The state event in which clients find who of a room is no person, for the names of rooms (MSC4171).
pub(crate) const FUNCTIONAL_MEMBERS: &str = "io.element.functional_members";

/// The state event that says how bots are to behave in a room.
pub(crate) const AI_CONFIG: &str = "chat.nudge.ai.config";

/// The field of a profile that says that somebody is a bot.
pub(crate) const BOT: &str = "chat.nudge.bot";

/// The third-party protocol under which clients can list the bots.
pub(crate) const PROTOCOL: &str = "aibots";

/// What a command to the bots begins with.
pub(crate) const COMMAND: &str = "!ai";
