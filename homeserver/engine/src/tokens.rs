//! Access, refresh and other tokens: how they look, and the hash that is all we keep of them.
//!
//! `nda_`, `ndr_` or another prefix, 32 random characters (190 bits), 6 characters of checksum. The prefix lets scanners of leaked
//! secrets recognise our tokens; the checksum lets them, and us, tell a token from a typing error without a look-up.

use rules::world::World;
use sha2::{Digest, Sha256};

const RANDOM_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 6;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Access,
    Refresh,
    Login,
    OpenId,
    Letter,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Access => "nda_",
            Self::Refresh => "ndr_",
            Self::Login => "ndl_",
            Self::OpenId => "ndo_",
            Self::Letter => "ndm_",
        }
    }
}

/// A new token.
pub(crate) fn new_token(world: &World, kind: TokenKind) -> String {
    let mut token = format!("{}{}", kind.prefix(), world.random_string(RANDOM_LENGTH));
    let checksum = checksum(&token);
    token.push_str(&checksum);
    token
}

/// Whether `token` could be one of ours: nobody needs to look up one that could not.
pub(crate) fn is_well_formed(token: &str, kind: TokenKind) -> bool {
    let Some((start, end)) = token.split_at_checked(kind.prefix().len() + RANDOM_LENGTH) else { return false };
    start.starts_with(kind.prefix()) && end == checksum(start)
}

/// What is stored in place of the token. Unsalted and fast is right here: the tokens are random, not chosen by people.
pub(crate) fn hash_token(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The first 32 bits of the SHA-256 of prefix and random part, in base 62, least digit first.
fn checksum(start: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = hash_token(start);
    let mut number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let mut text = String::with_capacity(CHECKSUM_LENGTH);
    for _ in 0..CHECKSUM_LENGTH {
        text.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    };

    use rules::world::{Chance, Clock};

    use super::*;

    struct Stopped;

    impl Clock for Stopped {
        fn now_ms(&self) -> u64 {
            0
        }
    }

    struct Counting(AtomicU8);

    impl Chance for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn world() -> World {
        World { clock: Arc::new(Stopped), chance: Arc::new(Counting(AtomicU8::new(0))) }
    }

    #[test]
    fn tokens_have_the_shape_that_is_promised() {
        let kinds = [
            (TokenKind::Access, "nda_"),
            (TokenKind::Refresh, "ndr_"),
            (TokenKind::Login, "ndl_"),
            (TokenKind::OpenId, "ndo_"),
            (TokenKind::Letter, "ndm_"),
        ];
        for (kind, prefix) in kinds {
            let token = new_token(&world(), kind);
            assert_eq!(token.len(), 42);
            assert!(token.starts_with(prefix));
            assert!(token[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert!(is_well_formed(&token, kind));
        }
    }

    #[test]
    fn tokens_differ_and_so_do_their_hashes() {
        let world = world();
        let (one, other) = (new_token(&world, TokenKind::Access), new_token(&world, TokenKind::Access));
        assert_ne!(one, other);
        assert_ne!(hash_token(&one), hash_token(&other));
    }

    #[test]
    fn whatever_is_not_a_token_is_told_apart() {
        let token = new_token(&world(), TokenKind::Access);
        assert!(!is_well_formed(&token, TokenKind::Refresh), "an access token does not refresh");
        assert!(!is_well_formed(&token[..41], TokenKind::Access));
        assert!(!is_well_formed(&format!("{token}0"), TokenKind::Access));
        for index in 4..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).expect("ASCII stays ASCII");
            assert!(!is_well_formed(&changed, TokenKind::Access), "{index}");
        }
        for text in ["", "nda_", "syt_abc", &"\u{e9}".repeat(40)] {
            assert!(!is_well_formed(text, TokenKind::Access), "{text:?}");
        }
    }
}
