//! Lower-case hexadecimal, the one written form of bytes in Vox.

/// The bytes in lower-case hexadecimal.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// Why a text does not spell `N` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has another number of bytes than `2 * N`.
    Length,
    /// It holds something else than `0` to `9` and `a` to `f`.
    Digit,
}

/// The bytes that `hex` spells.
pub(crate) fn decode<const N: usize>(hex: &str) -> Result<[u8; N], Fault> {
    if hex.len() != 2 * N {
        return Err(Fault::Length);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
            return Err(Fault::Digit);
        };
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

/// The value of a hexadecimal digit. Upper case is refused: bytes have one written form.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
