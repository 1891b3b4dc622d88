//! The canonical form of a body that is to be verified, not kept.
//!
//! Canonical JSON has no fractions and no numbers beyond 2^53. Yet one such number somewhere in one event or EDU must
//! not take a whole transaction with it, so where the strict form does not exist, the form is used that other servers
//! sign: keys in order, numbers as they are.

use ruma::CanonicalJsonValue;
use serde_json::Value;

/// The canonical form, or `None` if the text is not JSON.
pub(super) fn canonicalise(body: &[u8]) -> Option<String> {
    match serde_json::from_slice::<CanonicalJsonValue>(body) {
        Ok(strict) => Some(strict.to_string()),
        Err(_) => serde_json::from_slice(body).ok().map(|value| lenient(&value)),
    }
}

fn lenient(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// As deep as the parser lets JSON be: 128.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write(item, text);
            }
            text.push('}');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree_where_both_exist() {
        let body = r#"{"b":[1,-2,{"z":"\u00e9\n\u0001\"","a":null}],"a":{"\ud83d\ude00":true,"\uffff":false},"":""}"#;
        let strict = canonicalise(body.as_bytes()).unwrap();
        assert_eq!(lenient(&serde_json::from_str(body).unwrap()), strict);
        assert!(strict.starts_with(r#"{"":"","a":{"#), "{strict}");
    }

    #[test]
    fn numbers_that_canonical_json_lacks_do_not_fail_a_body() {
        for (body, expected) in [
            (r#"{"b": 1.5, "a": 1}"#, r#"{"a":1,"b":1.5}"#),
            ("[1.0, 9007199254740993]", "[1.0,9007199254740993]"),
            ("1e3", "1000.0"),
        ] {
            assert_eq!(canonicalise(body.as_bytes()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_not_json_has_no_form() {
        for body in ["", "{", "nonsense", "{} {}", "{\"a\": 01}"] {
            assert_eq!(canonicalise(body.as_bytes()), None, "{body}");
        }
    }
}
