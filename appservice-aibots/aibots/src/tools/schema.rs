//! Whether arguments are what a function's JSON schema says, as far as schemas of functions go: objects with properties
//! of a type, some of them required. What else a schema may say is for the function itself to check; it must anyway.

use serde_json::Value;

/// How deep arguments are looked into.
const DEPTH_MAX: usize = 16;

/// What is wrong with the arguments, in words for the model.
pub(super) fn check(schema: &Value, arguments: &Value) -> Result<(), String> {
    if !arguments.is_object() {
        return Err("they are not an object".to_owned());
    }
    check_value(schema, arguments, 0)
}

fn check_value(schema: &Value, value: &Value, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("they are too deep".to_owned());
    }
    if !has_type(&schema["type"], value) {
        return Err(format!("a value should be of type {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        return Err(format!("a value should be one of {}", schema["enum"]));
    }
    match value {
        Value::Object(object) => {
            let properties = schema["properties"].as_object();
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for name in required {
                if !object.contains_key(name) {
                    return Err(format!("`{name}` is missing"));
                }
            }
            for (name, value) in object {
                match properties.and_then(|properties| properties.get(name)) {
                    Some(schema) => check_value(schema, value, depth + 1)?,
                    None if schema["additionalProperties"] == false => return Err("there is one too many".to_owned()),
                    None => {}
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_value(&schema["items"], item, depth + 1)),
        _ => Ok(()),
    }
}

/// One type, one of several, or none named.
fn has_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
            _ => true,
        },
        Value::Array(names) => names.iter().any(|name| has_type(name, value)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn arguments_and_schemas() {
        let schema = json!({
            "type": "object",
            "required": ["city"],
            "additionalProperties": false,
            "properties": {
                "city": { "type": "string" },
                "days": { "type": "integer" },
                "unit": { "enum": ["C", "F"] },
                "tags": { "type": ["array", "null"], "items": { "type": "string" } },
            },
        });
        for good in [
            json!({ "city": "Ulm" }),
            json!({ "city": "", "days": 2.0, "unit": "C", "tags": null }),
            json!({ "city": "x", "tags": ["y"] }),
        ] {
            assert_eq!(check(&schema, &good), Ok(()), "{good}");
        }
        let bad = [
            json!([]),
            json!("x"),
            json!(null),
            json!({}),
            json!({ "city": 1 }),
            json!({ "city": "x", "days": 1.5 }),
            json!({ "city": "x", "unit": "K" }),
            json!({ "city": "x", "tags": [1] }),
            json!({ "city": "x", "other": 1 }),
        ];
        for bad in bad {
            assert!(check(&schema, &bad).is_err(), "{bad}");
        }
        assert_eq!(check(&json!({}), &json!({ "anything": 1 })), Ok(()));
        let mut deep = json!(1);
        let mut schema = json!({});
        for _ in 0..40 {
            deep = json!({ "a": deep });
            schema = json!({ "properties": { "a": schema } });
        }
        assert!(check(&schema, &deep).is_err());
    }
}
