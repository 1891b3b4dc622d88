//! `nudge room`: rooms as this server and others have them.

use std::process::ExitCode;

use engine::{Comparison, Engine, RoomCheck};
use ruma::{EventId, RoomId};

use super::{Outcome, with_configuration};
use crate::{cli::RoomCommand, configuration::Sources, data_directory::Use, wiring::House, world};

pub(crate) fn run(sources: &Sources, command: RoomCommand) -> Outcome {
    with_configuration(sources, async |loaded| {
        let RoomCommand::Check { room, repair } = command;
        let room_id = RoomId::parse(&room).map_err(|error| format!("{room:?} is no room id: {error}"))?;
        // A running server has the state of the room in memory, and sends what is new in it.
        let how = if repair { Use::Serving } else { Use::Beside };
        let house = House::open(&loaded.configuration, &world::system(), how).await?;
        let outcome = check(&house.engine, &room_id, repair).await;
        house.engine.stop();
        house.storage.close().await;
        outcome
    })
}

async fn check(engine: &Engine, room_id: &RoomId, repair: bool) -> Outcome {
    let found = engine.check_room(room_id).await?;
    print!("{}", report(&found));
    if !found.servers.is_empty() && found.servers.iter().all(|server| server.outcome.is_err()) {
        return Err("none of the other servers in the room could be asked; nothing is known of their state".into());
    }
    let differing = found.servers.iter().any(|server| server.outcome.as_ref().is_ok_and(|said| !said.agrees()));
    if !differing {
        return Ok(ExitCode::SUCCESS);
    }
    if !repair {
        println!("To fetch what differs and to resolve the state anew, stop the server and add --repair.");
        return Ok(ExitCode::FAILURE);
    }
    let Some(event_id) = engine.repair_room(room_id, &found).await? else {
        return Err("none of the servers that differ gave its state; nothing was changed".into());
    };
    println!("The state was resolved anew with that of the servers that differ, as of our event {event_id}.");
    println!("The other servers hear of it when this one is started.");
    Ok(ExitCode::SUCCESS)
}

/// What was found, for a person to read.
fn report(check: &RoomCheck) -> String {
    let mut lines = Vec::new();
    for server in &check.servers {
        match &server.outcome {
            Err(reason) => lines.push(format!("{}: not compared: {reason}", server.server)),
            Ok(said) if said.agrees() => {
                lines.push(format!("{}: the same {} entries before {}", server.server, said.entries, said.event_id));
            }
            Ok(said) => {
                let count = said.differences.len() + said.unknown.len();
                let differences = if count == 1 { "difference" } else { "differences" };
                lines.push(format!("{}: {count} {differences} before {}", server.server, said.event_id));
                lines.extend(table(said));
            }
        }
    }
    if check.servers.is_empty() {
        lines.push("No other server is in the room.".to_owned());
    }
    if check.servers_left_out > 0 {
        lines.push(format!("{} more servers were not asked.", check.servers_left_out));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The entries that differ, one a line, in columns.
fn table(said: &Comparison) -> Vec<String> {
    let event = |event_id: Option<&EventId>| event_id.map_or("-".to_owned(), ToString::to_string);
    let mut rows = vec![["type", "state key", "here", "there"].map(ToOwned::to_owned)];
    rows.extend(said.differences.iter().map(|difference| {
        let key = if difference.state_key.is_empty() { "\"\"".to_owned() } else { shown(&difference.state_key) };
        let event_type = shown(&difference.event_type.to_string());
        [event_type, key, event(difference.ours.as_deref()), event(difference.theirs.as_deref())]
    }));
    let unknown =
        said.unknown.iter().map(|event_id| ["?".to_owned(), "?".to_owned(), "-".to_owned(), event_id.to_string()]);
    rows.extend(unknown);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 4]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}", cells.join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Text that somebody else has chosen, fit for a terminal.
fn shown(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use engine::{Comparison, RoomCheck, ServerCheck, StateDifference};
    use ruma::{event_id, server_name};

    use super::report;

    #[test]
    fn differences_stand_in_columns_and_control_characters_in_none() {
        let differences = vec![
            StateDifference {
                event_type: "m.room.topic".into(),
                state_key: String::new(),
                ours: Some(event_id!("$ours").to_owned()),
                theirs: Some(event_id!("$theirs").to_owned()),
            },
            StateDifference {
                event_type: "m.room.member".into(),
                state_key: "@a\u{1b}[2J:far".to_owned(),
                ours: None,
                theirs: Some(event_id!("$theirs").to_owned()),
            },
        ];
        let unknown = vec![event_id!("$what").to_owned()];
        let event_id = event_id!("$shared").to_owned();
        let said = Comparison { event_id, entries: 7, differences, unknown };
        let agreeing = Comparison { differences: Vec::new(), unknown: Vec::new(), ..said.clone() };
        let server = |name: &str, outcome| ServerCheck { server: name.try_into().unwrap(), outcome };
        let servers = vec![
            server("far", Ok(said)),
            server("near", Ok(agreeing)),
            server(server_name!("off").as_str(), Err("unreachable".to_owned())),
        ];
        let text = report(&RoomCheck { servers, servers_left_out: 2 });
        assert!(text.starts_with("far: 3 differences before $shared\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let columns: Vec<Option<usize>> =
            text.lines().skip(1).take(3).map(|line| line.find("$theirs").or_else(|| line.find("there"))).collect();
        assert!(columns[0].is_some() && columns.iter().all(|column| *column == columns[0]), "{text}");
        assert!(text.contains("near: the same 7 entries before $shared\n"), "{text}");
        assert!(text.contains("off: not compared: unreachable\n2 more servers were not asked.\n"), "{text}");
    }
}
