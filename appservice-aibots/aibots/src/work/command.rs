//! Doing what people ask of the bots themselves.

use std::fmt::Write as _;

use super::{WorkError, say};
use crate::conversation::command::{Command, HELP, Task};
use crate::conversation::event::Event;
use crate::conversation::room::{Mode, Room, RoomSettings};
use crate::service::Service;

/// Obeys, and says so. A task is left to be done like an answer.
pub(super) async fn obey(
    service: &Service,
    room: &Room,
    mut settings: RoomSettings,
    event: &Event,
    bot: &str,
    words: &str,
) -> Result<Option<Task>, WorkError> {
    let command = Command::read(words);
    let is_direct = room.is_direct(|user_id| service.is_ours(user_id));
    if command.wants_power() && !is_direct && !room.may_set_state(&event.sender) {
        say::reply(service, bot, event, "Only who may change the settings of this room may do that.").await?;
        return Ok(None);
    }
    let before = settings.clone();
    let said = match command {
        Command::Help => HELP.to_owned(),
        Command::Unknown => format!("I did not understand that.\n\n{HELP}"),
        Command::Settings => described(service, room, &settings),
        Command::Task(_) if settings.mode == Some(Mode::Off) => "I am off in this room.".to_owned(),
        Command::Mode(mode) => {
            settings.mode = Some(mode);
            format!("The mode is `{}` now.", mode.name())
        }
        Command::Reset => {
            settings.forgotten_until = Some(event.event_id.clone());
            "I have forgotten what was said so far.".to_owned()
        }
        Command::Task(_) if !has_model(service, bot, &settings) => {
            "For that I would need a language model, and I have only a few simple rules.".to_owned()
        }
        Command::Task(task) => return Ok(Some(task)),
        Command::Model(Some(model)) if service.model(&model, "").is_none() => {
            "I may only use the models that my operator has set up.".to_owned()
        }
        Command::Model(model) => {
            settings.model = model;
            match &settings.model {
                Some(model) => format!("The model in this room is `{model}` now."),
                None => "Each bot has its own model again.".to_owned(),
            }
        }
        Command::Tools(is_on) => {
            settings.tools = is_on;
            format!("Tools are {} in this room.", if is_on { "allowed" } else { "forbidden" })
        }
    };
    if settings != before {
        service.set_room(&event.room_id, &settings).await?;
        if settings.forgotten_until != before.forgotten_until {
            service.store.forget(&event.room_id).await?;
        }
    }
    say::reply(service, bot, event, &said).await?;
    Ok(None)
}

fn described(service: &Service, room: &Room, settings: &RoomSettings) -> String {
    let mut text = format!("Mode: `{}`", settings.mode.unwrap_or_default().name());
    text.push_str(if settings.tools { "\n\nTools: allowed" } else { "\n\nTools: forbidden" });
    for user_id in room.bots(|user_id| service.bot(user_id).is_some()) {
        let Some(bot) = service.bot(&user_id) else { continue };
        let model = settings.model.as_deref().unwrap_or(&bot.settings.model);
        let model = if model.is_empty() { &bot.settings.provider } else { model };
        let _ = write!(text, "\n- {}: `{model}`", bot.settings.name);
    }
    text
}

/// Whether a bot can do more in this room than its few rules.
fn has_model(service: &Service, bot: &str, settings: &RoomSettings) -> bool {
    let chosen = settings.model.as_deref().and_then(|model| service.model(model, ""));
    chosen.is_some_and(|chosen| !service.completions.is_offline(&chosen))
        || service.bot(bot).is_some_and(|bot| !service.is_offline(bot))
}
