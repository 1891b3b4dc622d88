//! Keys that prove nothing, because their secret half is public: those of test vectors and examples; or because they
//! have none.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use rules::event::weak::is_weak_key;
use ruma::serde::{Base64, base64::Standard};

/// In unpadded base64, each with where its secret half stands.
const PUBLIC_KNOWLEDGE: &[&str] = &[
    // The test vectors of the specification, <https://spec.matrix.org/v1.19/appendices/#signing-key>.
    "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI",
    // The test vectors of Ed25519, RFC 8032, section 7.1: tests 1, 2, 3, 1024 and SHA(abc).
    "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw",
    "/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU",
    "J4EX/BRMcjQPZ9DyMW6Dhs7/vyskKMnFH+98WX8dQm4",
    "7Bcrk61eVjv0kyxw4SRQNMNUZ+8u/U1k6/gZaDRn4r8",
];

/// The keys that are refused.
pub(super) struct RefusedKeys {
    keys: RwLock<HashSet<[u8; 32]>>,
}

impl Default for RefusedKeys {
    fn default() -> Self {
        let decode = |text: &&str| Base64::<Standard>::parse(*text).ok()?.into_inner().try_into().ok();
        Self { keys: RwLock::new(PUBLIC_KNOWLEDGE.iter().filter_map(decode).collect()) }
    }
}

impl RefusedKeys {
    pub(super) fn extend(&self, keys: impl IntoIterator<Item = [u8; 32]>) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    pub(super) fn contains(&self, key: &[u8; 32]) -> bool {
        is_weak_key(key) || self.keys.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

#[cfg(test)]
mod tests {
    use rules::event::ServerKey;
    use ruma::owned_server_name;

    use super::*;

    fn public_key(seed_hex: &str) -> [u8; 32] {
        let seed: [u8; 32] = std::array::from_fn(|index| u8::from_str_radix(&seed_hex[2 * index..][..2], 16).unwrap());
        ServerKey::from_seed(owned_server_name!("example.org"), "a", &seed).unwrap().public_key()
    }

    #[test]
    fn s_010_keys_whose_secret_is_public_are_refused() {
        let refused = RefusedKeys::default();
        assert_eq!(refused.keys.read().unwrap().len(), PUBLIC_KNOWLEDGE.len());
        for seed in [
            // YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1
            "6090c103d5e7af6b15a970fd563ed75549e6159719ae5c3c31dee4316fb75c0d",
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        ] {
            assert!(refused.contains(&public_key(seed)), "{seed}");
        }
        assert!(!refused.contains(&public_key(&"01".repeat(31).chars().chain("02".chars()).collect::<String>())));
    }
}
