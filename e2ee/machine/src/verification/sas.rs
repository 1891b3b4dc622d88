//! The computations of a short authentication string, and of the codes that vouch for keys.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{DeviceId, UserId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vodozemac::sas::{EstablishedSas, Mac};

use super::Emoji;
use super::emoji::EMOJI;
use crate::signed_json::{self, Object, text};

/// One end of a verification.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) user_id: &'a UserId,
    pub(super) device_id: &'a DeviceId,
}

/// Keys by their ids (`ed25519:...`).
pub(super) type Keys = BTreeMap<String, String>;

/// The hash by which the accepting side commits itself to its key before it has seen the other's.
pub(super) fn commitment(key: &str, start: &Object) -> Option<String> {
    let start = signed_json::canonical(&Value::Object(start.clone()))?;
    Some(vodozemac::base64_encode(Sha256::new().chain_update(key).chain_update(start).finalize()))
}

/// What both users compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShortString {
    pub(super) emoji: [Emoji; 7],
    pub(super) decimals: (u16, u16, u16),
}

impl ShortString {
    pub(super) fn new(sas: &EstablishedSas, we_started: bool, us: End<'_>, them: End<'_>, flow: &str) -> Self {
        let ours = (us, sas.our_public_key());
        let theirs = (them, sas.their_public_key());
        let [(start, start_key), (accept, accept_key)] = if we_started { [ours, theirs] } else { [theirs, ours] };
        let info = format!(
            "MATRIX_KEY_VERIFICATION_SAS|{}|{}|{}|{}|{}|{}|{flow}",
            start.user_id,
            start.device_id,
            start_key.to_base64(),
            accept.user_id,
            accept.device_id,
            accept_key.to_base64(),
        );
        let bytes = sas.bytes(&info);
        Self { emoji: bytes.emoji_indices().map(|index| EMOJI[usize::from(index)]), decimals: bytes.decimals() }
    }
}

fn mac_info(from: End<'_>, to: End<'_>, flow: &str, key_id: &str) -> String {
    format!("MATRIX_KEY_VERIFICATION_MAC{}{}{}{}{flow}{key_id}", from.user_id, from.device_id, to.user_id, to.device_id)
}

/// The codes for our keys, and the code for the list of them.
pub(super) fn macs(sas: &EstablishedSas, us: End<'_>, them: End<'_>, flow: &str, keys: &Keys) -> (Value, String) {
    let code = |(id, key): (&String, &String)| {
        (id.clone(), json!(sas.calculate_mac(key, &mac_info(us, them, flow, id)).to_base64()))
    };
    let codes: Object = keys.iter().map(code).collect();
    let list = keys.keys().map(String::as_str).collect::<Vec<_>>().join(",");
    let list_code = sas.calculate_mac(&list, &mac_info(us, them, flow, "KEY_IDS")).to_base64();
    (Value::Object(codes), list_code)
}

/// Which of the other's keys a `mac` message vouches for. `None` when a code is wrong, or it vouches for nothing known.
pub(super) fn vouched(
    sas: &EstablishedSas,
    us: End<'_>,
    them: End<'_>,
    flow: &str,
    keys: &Keys,
    message: &Object,
) -> Option<BTreeSet<String>> {
    let codes = message.get("mac").and_then(Value::as_object)?;
    let is_right = |key_id: &str, input: &str, code: &str| {
        let code = Mac::from_base64(code).ok()?;
        sas.verify_mac(input, &mac_info(them, us, flow, key_id), &code).ok()
    };
    // A map of serde_json is sorted, but only as long as no other package asks it to keep the order.
    let ids: BTreeSet<&str> = codes.keys().map(String::as_str).collect();
    let list = ids.iter().copied().collect::<Vec<_>>().join(",");
    is_right("KEY_IDS", &list, text(message, "keys")?)?;
    let mut vouched = BTreeSet::new();
    for (key_id, code) in codes {
        // Keys that we do not know of tell us nothing.
        if let Some(key) = keys.get(key_id) {
            is_right(key_id, key, code.as_str()?)?;
            vouched.insert(key_id.clone());
        }
    }
    (!vouched.is_empty()).then_some(vouched)
}
