//! A private key, of the backup or the secret storage, in the form that people write down.
//! <https://spec.matrix.org/v1.19/appendices/#cryptographic-key-representation>

/// The alphabet of base58: no characters that look alike.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What a key begins with.
const PREFIX: [u8; 2] = [0x8B, 0x01];

/// Prefix, key and parity, in bytes.
const LENGTH: usize = 2 + 32 + 1;

/// A text that is no recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a recovery key; perhaps it was mistyped")]
pub struct RecoveryKeyError;

/// Writes a key, in groups of four.
pub(crate) fn encode(secret: &[u8; 32]) -> String {
    let mut bytes = [PREFIX.as_slice(), secret].concat();
    bytes.push(bytes.iter().fold(0, |parity, byte| parity ^ byte));
    // Long division by 58. The prefix makes the number as long as it can be, so that there are no leading zeros.
    let mut digits = Vec::new();
    while bytes.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut bytes {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 58) as u8;
            rest = value % 58;
        }
        digits.push(char::from(ALPHABET[rest as usize]));
    }
    digits.reverse();
    let groups: Vec<String> = digits.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join(" ")
}

/// Reads a key, with or without spaces.
pub(crate) fn decode(text: &str) -> Result<[u8; 32], RecoveryKeyError> {
    let mut bytes = [0_u8; LENGTH];
    for character in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let digit = ALPHABET.iter().position(|known| *known == character).ok_or(RecoveryKeyError)?;
        let mut carry = digit as u32;
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 58 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return Err(RecoveryKeyError);
        }
    }
    let parity = bytes.iter().fold(0, |parity, byte| parity ^ byte);
    let secret = bytes.strip_prefix(&PREFIX).and_then(|rest| rest.first_chunk()).filter(|_| parity == 0);
    secret.copied().ok_or(RecoveryKeyError)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_recovery_key_is_read_as_it_was_written_and_a_slip_of_the_pen_is_noticed() {
        let secret = [7_u8; 32];
        let written = encode(&secret);
        assert!(written.starts_with("Es"), "{written}");
        assert_eq!(decode(&written), Ok(secret));
        assert_eq!(decode(&written.replace(' ', "")), Ok(secret));
        assert!(decode(&written.replacen('s', "t", 1)).is_err());
        assert!(decode(&format!("{written}11111111")).is_err());
        assert!(decode("").is_err());
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let mut expected = [0_u8; 32];
        for (place, byte) in expected.iter_mut().enumerate() {
            *byte = [
                0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf,
                0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
            ][place];
        }
        assert_eq!(decode("EsTcLW2KPGiFwKEA3As5g5c4BXwkqeeJZJV8Q9fugUMNUE4d"), Ok(expected));
    }
}
