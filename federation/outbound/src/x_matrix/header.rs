//! The grammar of the `Authorization` header, as lenient as older servers need: names in any case, and values that need
//! quotes but have none.

use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName,
    serde::{Base64, base64::Standard},
};

/// What the header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct XMatrix {
    pub(super) origin: OwnedServerName,
    pub(super) destination: Option<String>,
    pub(super) key_id: OwnedServerSigningKeyId,
    pub(super) signature: Vec<u8>,
}

/// The parameters that mean something; others are ignored.
const KNOWN: [&str; 4] = ["origin", "destination", "key", "sig"];

pub(super) fn parse(text: &str) -> Result<XMatrix, String> {
    let (scheme, rest) = text.split_once(' ').ok_or("no parameters")?;
    if !scheme.eq_ignore_ascii_case("X-Matrix") {
        return Err("not the scheme X-Matrix".to_owned());
    }
    let mut values: [Option<String>; 4] = Default::default();
    for (name, value) in parameters(rest)? {
        let Some(index) = KNOWN.iter().position(|known| name.eq_ignore_ascii_case(known)) else { continue };
        if values[index].replace(value).is_some() {
            return Err(format!("{} stands twice", KNOWN[index]));
        }
    }
    let [origin, destination, key, signature] = values;
    let missing = |name: &str| format!("{name} is missing");
    let origin = ServerName::parse(origin.ok_or_else(|| missing("origin"))?).map_err(|error| error.to_string())?;
    let key_id: OwnedServerSigningKeyId =
        key.ok_or_else(|| missing("key"))?.as_str().try_into().map_err(|_| "not a key id")?;
    let signature: Base64<Standard> =
        Base64::parse(signature.ok_or_else(|| missing("sig"))?).map_err(|error| error.to_string())?;
    Ok(XMatrix { origin, destination, key_id, signature: signature.into_inner() })
}

/// `name=value` pairs between commas, some of which may have nothing between them.
fn parameters(text: &str) -> Result<Vec<(&str, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a parameter without a value")?;
        let (value, after) = value(after.trim_start_matches([' ', '\t']))?;
        found.push((name.trim_end_matches([' ', '\t']), value));
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return Err("no comma between parameters".to_owned());
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    Ok(found)
}

/// One value, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return if value.contains(['"', '\\']) {
            Err("a stray quote".to_owned())
        } else {
            Ok((value.to_owned(), after))
        };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[index + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    Err("a quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_097_honest_variants_are_understood() {
        let expected = XMatrix {
            origin: ServerName::parse("origin.example:8448").unwrap(),
            destination: Some("here.example".to_owned()),
            key_id: "ed25519:key1".try_into().unwrap(),
            signature: b"test".to_vec(),
        };
        for text in [
            r#"X-Matrix origin="origin.example:8448",destination="here.example",key="ed25519:key1",sig="dGVzdA""#,
            r#"X-Matrix origin="origin.example:8448",destination="here.example",key="ed25519:key1",sig="dGVzdA==""#,
            "X-Matrix origin=origin.example:8448,destination=here.example,key=ed25519:key1,sig=dGVzdA",
            r#"x-mAtRiX   ORIGIN=origin.example:8448 ,	Destination = "here.example" ,key="ed25519:key1",sIg=dGVzdA"#,
            r#"X-Matrix , sig="dGVzdA",key="ed2\5519:k\ey1",,origin="origin.example:8448",destination=here.example, "#,
            r#"X-Matrix new="a, \"b\"",origin=origin.example:8448,new=c,destination=here.example,key=ed25519:key1,sig=dGVzdA"#,
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
    }

    #[test]
    fn the_destination_may_be_missing() {
        let parsed = parse(r#"X-Matrix origin="a.example",key="ed25519:1",sig="dGVzdA""#).unwrap();
        assert_eq!(parsed.destination, None);
    }

    #[test]
    fn s_097_others_are_refused() {
        for text in [
            "",
            "X-Matrix",
            "X-Matrix ",
            "Bearer abcdef",
            "X-Matrix origin=a.example",
            "X-Matrix origin=a.example,key=ed25519:1",
            "X-Matrix key=ed25519:1,sig=dGVzdA",
            "X-Matrix origin=a.example,sig=dGVzdA",
            "X-Matrix origin=a.example,origin=a.example,key=ed25519:1,sig=dGVzdA",
            "X-Matrix origin=a.example,ORIGIN=b.example,key=ed25519:1,sig=dGVzdA",
            "X-Matrix origin=a.example,key=ed25519:1,key=ed25519:2,sig=dGVzdA",
            "X-Matrix origin=a.example,key=ed25519:1,sig=dGVzdA,sig=dGVzdA",
            "X-Matrix origin=a b.example,key=ed25519:1,sig=dGVzdA",
            r#"X-Matrix origin="a.example,key=ed25519:1,sig=dGVzdA"#,
            r#"X-Matrix origin="a.example\"#,
            r#"X-Matrix origin="a.example"key=ed25519:1,sig=dGVzdA"#,
            "X-Matrix origin=a/b,key=ed25519:1,sig=dGVzdA",
            "X-Matrix origin=a.example,key=ed25519,sig=dGVzdA",
            "X-Matrix origin=a.example,key=ed25519:1,sig=!!!!",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
