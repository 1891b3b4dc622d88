//! Parameters of the query that ruma's types do not have.

use std::str;

use serde::de::DeserializeOwned;

use crate::{Result, error::ApiError};

/// The value of a parameter, percent-decoded; the first if there are several.
pub(crate) fn parameter(query: &str, name: &str) -> Result<Option<String>> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).is_some_and(|key| key == name) {
            let value = decoded(value);
            return value.map(Some).ok_or_else(|| ApiError::invalid_param(format!("{name} is not UTF-8")));
        }
    }
    Ok(None)
}

/// The value of a parameter that holds JSON; what is not there is the default.
pub(crate) fn json<T: DeserializeOwned + Default>(query: &str, name: &str) -> Result<T> {
    match parameter(query, name)? {
        Some(text) if text.trim_start().starts_with('{') => read_json(&text, name),
        _ => Ok(T::default()),
    }
}

/// The value of a parameter that is JSON.
pub(crate) fn read_json<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| ApiError::invalid_param(format!("{name}: {error}")))
}

/// A key or a value, percent-decoded; `None` if it is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::parameter;

    #[test]
    fn parameters_are_decoded() {
        let query = "a=1&org.x%2Edelay=7+0%25&b=%F0%9F%A6%80&c&d=%ff&e=%4";
        for (name, value) in
            [("a", Some("1")), ("org.x.delay", Some("7 0%")), ("b", Some("\u{1f980}")), ("c", Some(""))]
        {
            assert_eq!(parameter(query, name).unwrap().as_deref(), value, "{name}");
        }
        assert!(parameter(query, "x").unwrap().is_none());
        assert!(parameter(query, "d").is_err() && parameter(query, "e").is_err());
    }
}
