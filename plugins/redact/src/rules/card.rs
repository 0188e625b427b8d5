//! Numbers of payment cards.

use std::iter;

use super::{Found, Kind, Rest, is_word};

/// 13 to 19 digits, which may stand in groups, of a large network and with a right check digit.
pub(super) fn card(text: &[u8], previous: u8) -> Option<Found> {
    if matches!(previous, b'.' | b'+') {
        return None;
    }
    let digits: Vec<(usize, u8)> = digits(text).take(19).collect();
    (13..=digits.len()).rev().find_map(|length| {
        let (digits, end) = (&digits[..length], digits[length - 1].0 + 1);
        let fits = is_of_a_network(digits[0].1, digits[1].1, length)
            && has_right_check_digit(digits)
            && !text.get(end).is_some_and(|byte| is_word(*byte));
        fits.then_some(Found {
            kind: Kind::Card,
            keep: 0,
            masked: end,
            rest: Rest::Nothing,
        })
    })
}

/// ISO/IEC 7812: which first digits go with which lengths, roughly.
fn is_of_a_network(first: u8, second: u8, length: usize) -> bool {
    match first {
        2 | 5 => length == 16,
        3 => matches!(
            (second, length),
            (4 | 7, 15) | (0 | 6 | 8 | 9, 14) | (5, 16)
        ),
        4 => matches!(length, 13 | 16 | 19),
        6 => (16..=19).contains(&length),
        _ => false,
    }
}

/// The formula of H. P. Luhn, ISO/IEC 7812-1 annex B.
fn has_right_check_digit(digits: &[(usize, u8)]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, (_, digit))| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 % 10 + digit / 5,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The digits at the beginning of `text` with their places, as long as at most one blank or dash
/// stands between two.
pub fn digits(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let mut at = 0;
    iter::from_fn(move || {
        let separated = at > 0 && matches!(text.get(at), Some(b' ' | b'-'));
        let place = at + usize::from(separated);
        let digit = text.get(place).filter(|byte| byte.is_ascii_digit())? - b'0';
        at = place + 1;
        Some((place, digit))
    })
}
