//! What people can say to the bots about themselves: `!ai ...`.

use super::room::Mode;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    /// Who is here, and how they are set.
    Settings,
    Mode(Mode),
    /// Forget what was said so far.
    Reset,
    /// Another model for this room, or (nothing said) that of each bot.
    Model(Option<String>),
    Tools(bool),
    /// A task about the conversation.
    Task(Task),
    /// Not understood.
    Unknown,
}

/// Something to do with the conversation so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Summary,
    Topics,
    Actions,
}

impl Task {
    /// What the model is told to do.
    pub(crate) fn instruction(self) -> &'static str {
        match self {
            Self::Summary => "Summarise the conversation above in a few short sentences.",
            Self::Topics => "List the topics of the conversation above, each in a few words.",
            Self::Actions => {
                "List what was agreed to be done in the conversation above, and by whom. Say so if nothing was."
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Topics => "topics",
            Self::Actions => "actions",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Summary, Self::Topics, Self::Actions].into_iter().find(|task| task.name() == name)
    }
}

/// Most characters of a model's name.
const MODEL_LENGTH_MAX: usize = 200;

/// What is told to those who ask for help, or are not understood.
pub(crate) const HELP: &str = "I am a bot. What you write here may be passed to a language model. You can say:\n\
    - `!ai help`: this\n\
    - `!ai settings`: which bots are here and how they are set\n\
    - `!ai mode all`, `mention` or `off`: when bots answer in this room\n\
    - `!ai reset`: forget what was said so far\n\
    - `!ai model NAME`: another of my models for this room; without a name, back to each bot's own\n\
    - `!ai tools on` or `off`: whether bots may use the tools of their operator here\n\
    - `!ai summary`, `!ai topics`, `!ai actions`: about the conversation so far";

impl Command {
    /// Reads what stands after the prefix.
    pub(crate) fn read(words: &str) -> Self {
        let lower = words.to_lowercase();
        let mut parts = lower.split_whitespace();
        let (verb, object) = (parts.next().unwrap_or("help"), parts.next());
        match (verb, object) {
            ("help", _) => Self::Help,
            ("settings" | "status", None) => Self::Settings,
            ("mode", Some(mode)) => Mode::named(mode).map_or(Self::Unknown, Self::Mode),
            ("reset" | "forget", None) => Self::Reset,
            ("model", _) => {
                let name = words.split_whitespace().nth(1).map(str::to_owned);
                if name.as_ref().is_some_and(|name| name.len() > MODEL_LENGTH_MAX) {
                    Self::Unknown
                } else {
                    Self::Model(name)
                }
            }
            ("tools", Some("on")) => Self::Tools(true),
            ("tools", Some("off")) => Self::Tools(false),
            (task, None) => Task::named(task).map_or(Self::Unknown, Self::Task),
            _ => Self::Unknown,
        }
    }

    /// Whether only those may say it who may set the room's state.
    pub(crate) fn wants_power(&self) -> bool {
        matches!(self, Self::Mode(_) | Self::Reset | Self::Model(_) | Self::Tools(_))
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, Task};
    use crate::conversation::room::Mode;

    #[test]
    fn commands_are_read_leniently() {
        assert_eq!(Command::read(""), Command::Help);
        assert_eq!(Command::read(" Mode  MENTION "), Command::Mode(Mode::Mention));
        assert_eq!(Command::read("mode loud"), Command::Unknown);
        assert_eq!(Command::read("model Vendor/Big-1"), Command::Model(Some("Vendor/Big-1".to_owned())));
        assert_eq!(Command::read("model"), Command::Model(None));
        assert_eq!(Command::read("summary"), Command::Task(Task::Summary));
        assert_eq!(Command::read("make tea"), Command::Unknown);
        assert_eq!(Command::read(&format!("model {}", "x".repeat(300))), Command::Unknown);
    }
}
