//! `event_fields` of filters: which fields of events a client wants.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use serde_json::{Map, Value, value::to_raw_value};

use crate::{ClientEvent, EngineError, Result};

/// How many fields one filter names at most; more are not looked at.
const FIELDS_MAX: usize = 100;

/// The fields that are wanted, each as the way to it.
pub(crate) struct EventFields(Vec<Vec<String>>);

impl EventFields {
    /// Nothing when all fields are wanted.
    pub(crate) fn of(fields: Option<&[String]>) -> Option<Self> {
        fields.map(|fields| Self(fields.iter().take(FIELDS_MAX).map(|field| path(field)).collect()))
    }

    /// An event with no other fields.
    pub(crate) fn apply(&self, event: &ClientEvent) -> Result<ClientEvent> {
        let whole: Value = serde_json::from_str(event.get()).map_err(EngineError::internal)?;
        let mut kept = Map::new();
        for path in &self.0 {
            keep(&whole, path, &mut kept);
        }
        to_raw_value(&kept).map(ClientEvent::from_json).map_err(EngineError::internal)
    }
}

/// The names on the way to a field, which dots part. A backslash makes a dot, or a backslash, part of a name.
fn path(field: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = field.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '.' => names.push(String::new()),
            '\\' if characters.peek().is_some_and(|next| matches!(next, '.' | '\\')) => {
                let escaped = characters.next();
                names.last_mut().into_iter().for_each(|name| name.extend(escaped));
            }
            character => names.last_mut().into_iter().for_each(|name| name.push(character)),
        }
    }
    names
}

fn keep(whole: &Value, path: &[String], kept: &mut Map<String, Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(value) = whole.get(name) else { return };
    if rest.is_empty() {
        kept.insert(name.clone(), value.clone());
        return;
    }
    // An object that is empty in the end was asked for nothing that it has.
    let mut inner = match kept.remove(name) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    keep(value, rest, &mut inner);
    if !inner.is_empty() {
        kept.insert(name.clone(), Value::Object(inner));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_fields_that_are_named_remain() {
        let event = json!({
            "type": "m.room.message", "sender": "@a:test", "event_id": "$a",
            "content": { "body": "text", "msgtype": "m.text", "a.b": { "c": 1 }, "m.mentions": {} },
        });
        let event = ClientEvent::from_json(to_raw_value(&event).unwrap());
        let kept = |fields: &[&str]| {
            let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
            let fields = EventFields::of(Some(&fields)).unwrap();
            serde_json::from_str::<Value>(fields.apply(&event).unwrap().get()).unwrap()
        };
        assert!(EventFields::of(None).is_none());
        assert_eq!(kept(&[]), json!({}));
        assert_eq!(kept(&["type", "content.body"]), json!({ "type": "m.room.message", "content": { "body": "text" } }));
        assert_eq!(
            kept(&["content.a\\.b.c", "content.msgtype"]),
            json!({
                "content": { "a.b": { "c": 1 }, "msgtype": "m.text" },
            })
        );
        assert_eq!(kept(&["content.body.more", "nothing", "content.\\body"]), json!({}));
    }
}
