//! How the public keys of devices and users are shown: with the signatures that came after them, and with nothing that
//! their owner's client put beside what it signed.
//!
//! Spec: <https://spec.matrix.org/v1.19/client-server-api/#device-keys>

use serde_json::{Map, Value, value::RawValue};

/// A signature: who signed, with which key, and the signature.
pub type Signature<'a> = (&'a str, &'a str, &'a str);

/// A signed key as it is handed out: with more signatures, and with nothing that is not signed. Nothing when the key is no
/// object.
pub fn shown<'a>(key: &RawValue, signatures: impl IntoIterator<Item = Signature<'a>>) -> Option<Box<RawValue>> {
    handed_out(key, signatures, None)
}

/// The keys of a device as they are handed out: with more signatures, and with its name as what is not signed. `unsigned`
/// is there without a name as well: Dendrite hands on `null` in place of what lacks, and clients take that for no keys.
pub fn shown_of_device<'a>(
    keys: &RawValue,
    signatures: impl IntoIterator<Item = Signature<'a>>,
    display_name: Option<&str>,
) -> Option<Box<RawValue>> {
    let name = display_name.map(|name| ("device_display_name".to_owned(), name.into()));
    handed_out(keys, signatures, Some(name.into_iter().collect()))
}

fn handed_out<'a>(
    keys: &RawValue,
    signatures: impl IntoIterator<Item = Signature<'a>>,
    unsigned: Option<Map<String, Value>>,
) -> Option<Box<RawValue>> {
    let Ok(Value::Object(mut object)) = serde_json::from_str(keys.get()) else { return None };
    object.remove("unsigned");
    object.extend(unsigned.map(|unsigned| ("unsigned".to_owned(), unsigned.into())));
    for (signer, key_id, signature) in signatures {
        let by_signer = object.entry("signatures").or_insert_with(|| Value::Object(Map::new())).as_object_mut()?;
        let by_key = by_signer.entry(signer).or_insert_with(|| Value::Object(Map::new())).as_object_mut()?;
        by_key.insert(key_id.to_owned(), signature.into());
    }
    serde_json::value::to_raw_value(&object).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn value(raw: Option<Box<RawValue>>) -> Value {
        serde_json::from_str(raw.unwrap().get()).unwrap()
    }

    #[test]
    fn signatures_are_added_and_unsigned_is_ours() {
        let keys = json!({"keys": {"a": "b"}, "unsigned": {"evil": 1}, "signatures": {"@a:x": {"ed25519:D": "one"}}});
        let keys = to_raw_value(&keys).unwrap();
        let signatures = [("@a:x", "ed25519:M", "two"), ("@b:x", "ed25519:U", "three")];
        let mut expected = json!({
            "keys": {"a": "b"},
            "signatures": {"@a:x": {"ed25519:D": "one", "ed25519:M": "two"}, "@b:x": {"ed25519:U": "three"}},
        });
        assert_eq!(value(shown(&keys, signatures)), expected);
        expected["unsigned"] = json!({});
        assert_eq!(value(shown_of_device(&keys, signatures, None)), expected);
        expected["unsigned"] = json!({"device_display_name": "Phone"});
        assert_eq!(value(shown_of_device(&keys, signatures, Some("Phone"))), expected);
    }
}
