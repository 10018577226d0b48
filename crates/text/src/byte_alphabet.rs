//! The GPT-2 alphabet: one visible character for every byte, so that tokens are valid text.
//!
//! Bytes 33-126, 161-172 and 174-255 stand for themselves; the other 68 are U+0100 onwards.

/// The character of each byte.
pub(crate) static BYTE_TO_CHAR: [char; 256] = table();

const fn is_visible(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

const fn table() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut next_hidden = 0x100;
    let mut byte = 0;
    while byte < 256 {
        let code = if is_visible(byte as u8) {
            byte as u32
        } else {
            next_hidden += 1;
            next_hidden - 1
        };
        chars[byte] = char::from_u32(code).expect("all codes are below 0x200");
        byte += 1;
    }
    chars
}

/// The byte of a character, if it belongs to the alphabet.
pub(crate) fn char_to_byte(c: char) -> Option<u8> {
    match c as u32 {
        code @ 0..256 if is_visible(code as u8) => Some(code as u8),
        0x100..0x144 => BYTE_TO_CHAR.iter().position(|&known| known == c).map(|i| i as u8),
        _ => None,
    }
}

/// Writes `bytes` in the alphabet into `out`, which is cleared first.
pub(crate) fn map_bytes(bytes: &[u8], out: &mut String) {
    out.clear();
    out.extend(bytes.iter().map(|byte| BYTE_TO_CHAR[usize::from(*byte)]));
}

/// The bytes a token stands for; `None` if a character is outside the alphabet.
pub(crate) fn token_bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(char_to_byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for byte in 0..=255u8 {
            assert_eq!(char_to_byte(BYTE_TO_CHAR[usize::from(byte)]), Some(byte));
        }
        assert_eq!(BYTE_TO_CHAR[usize::from(b' ')], 'Ġ');
        assert_eq!(BYTE_TO_CHAR[usize::from(b'\n')], 'Ċ');
        assert_eq!(char_to_byte('中'), None);
        assert_eq!(char_to_byte(' '), None);
        assert_eq!(char_to_byte('\u{144}'), None);
    }
}
