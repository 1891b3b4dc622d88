//! Whether a request is what the specification says, in every field.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde_json::{Map, Value};

type Verdict<T = ()> = Result<T, String>;

/// Fields that only go together with an event, and are left out when its id alone is wanted.
const OF_THE_EVENT: [&str; 7] =
    ["type", "sender", "sender_display_name", "room_name", "room_alias", "user_is_target", "content"];

/// The notification of a request that is as it should be.
pub(crate) fn notification(request: &http::Request<Bytes>) -> Verdict<Value> {
    let is = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
    is(request.method() == Method::POST, "the method is not POST")?;
    is(request.uri().scheme_str() == Some("https"), "it did not come by TLS")?;
    is(request.uri().path() == "/_matrix/push/v1/notify", "the path is another one")?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    is(content_type == Some("application/json"), "it does not say that it is JSON")?;
    let mut body: Value = serde_json::from_slice(request.body()).map_err(|error| error.to_string())?;
    let notification = body.get_mut("notification").map(Value::take).ok_or("there is no notification")?;
    let fields = notification.as_object().ok_or("the notification is no object")?;
    devices(fields)?;
    counts(fields)?;
    event(fields)?;
    Ok(notification)
}

fn event(fields: &Map<String, Value>) -> Verdict {
    for name in ["event_id", "room_id", "type", "sender", "sender_display_name", "room_name", "room_alias", "prio"] {
        if fields.get(name).is_some_and(|value| value.as_str().is_none_or(str::is_empty)) {
            return Err(format!("{name} is no text"));
        }
    }
    if fields.get("prio").is_some_and(|prio| prio != "high" && prio != "low") {
        return Err("prio is neither high nor low".to_owned());
    }
    if fields.get("user_is_target").is_some_and(|value| !value.is_boolean()) {
        return Err("user_is_target is no boolean".to_owned());
    }
    if fields.get("content").is_some_and(|value| !value.is_object()) {
        return Err("content is no object".to_owned());
    }
    let has_event = fields.contains_key("event_id");
    if has_event != fields.contains_key("room_id") {
        return Err("event_id and room_id come together".to_owned());
    }
    let is_short = fields["devices"][0]["data"]["format"] == "event_id_only";
    if let Some(name) = OF_THE_EVENT.into_iter().find(|name| fields.contains_key(*name))
        && (!has_event || is_short)
    {
        return Err(format!("{name} is said, which is not wanted"));
    }
    if has_event && !is_short && !(fields.contains_key("type") && fields.contains_key("sender")) {
        return Err("type and sender are missing".to_owned());
    }
    known(fields, &["event_id", "room_id", "prio", "counts", "devices"], &OF_THE_EVENT)
}

fn counts(fields: &Map<String, Value>) -> Verdict {
    let counts = fields.get("counts").and_then(Value::as_object).ok_or("there are no counts")?;
    if counts.values().any(|count| count.as_u64().is_none()) {
        return Err("a count is no number".to_owned());
    }
    known(counts, &["unread", "missed_calls"], &[])
}

fn devices(fields: &Map<String, Value>) -> Verdict {
    let devices = fields.get("devices").and_then(Value::as_array).ok_or("there are no devices")?;
    if devices.is_empty() {
        return Err("there are no devices".to_owned());
    }
    for device in devices {
        let device = device.as_object().ok_or("a device is no object")?;
        for name in ["app_id", "pushkey"] {
            if device.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(format!("a device has no {name}"));
            }
        }
        if device.get("pushkey_ts").is_some_and(|ts| ts.as_u64().is_none_or(|ts| ts > 100_000_000_000)) {
            return Err("pushkey_ts is not in seconds".to_owned());
        }
        for name in ["data", "tweaks"] {
            if device.get(name).is_some_and(|value| !value.is_object()) {
                return Err(format!("{name} is no object"));
            }
        }
        if device.get("data").is_some_and(|data| data.get("url").is_some()) {
            return Err("data tells the url".to_owned());
        }
        known(device, &["app_id", "pushkey", "pushkey_ts", "data", "tweaks"], &[])?;
    }
    Ok(())
}

fn known(fields: &Map<String, Value>, some: &[&str], others: &[&str]) -> Verdict {
    match fields.keys().find(|name| !some.contains(&name.as_str()) && !others.contains(&name.as_str())) {
        Some(name) => Err(format!("nobody knows {name}")),
        None => Ok(()),
    }
}
