//! The lines that no rule has to look at, found fast.
//!
//! Whatever a rule recognises contains a byte that is rare in ordinary text, in a surrounding that
//! is rarer still. Lines without one go on untouched. This decides about speed alone: a line that
//! is loud for no reason is read by the rules and found clean.

use crate::rules::{KEY_BEGINS, Rules, digits, ends_with_name};

/// Bytes that are tested at once.
const BLOCK: usize = 16;

/// For each byte, whether a rule may depend on it.
const RARE: [bool; 256] = {
    let mut rare = [false; 256];
    let bytes = b"@_-JKSBb=:0123456789";
    let mut at = 0;
    while at < bytes.len() {
        rare[bytes[at] as usize] = true;
        at += 1;
    }
    rare
};

/// The first byte at or behind `from` that makes its line loud. `text` goes as far as it is known,
/// and has everything from the beginning of what is undecided.
pub fn next_loud(text: &[u8], from: usize, rules: Rules) -> Option<usize> {
    let mut at = from;
    while let Some(rare) = next_rare(text, at) {
        let (before, behind) = text.split_at(rare);
        at = rare + 1;
        let loud = match text[rare] {
            b'@' => rules.emails,
            _ if !rules.secrets => false,
            b'=' | b':' => ends_with_name(before),
            b'_' => {
                before.ends_with(b"github_pat")
                    || matches!(before, [.., b'g', b'h', b'p' | b'o' | b'u' | b's' | b'r'])
            }
            b'-' => {
                before.ends_with(b"glpat")
                    || matches!(before, [.., b'x', b'o', b'x', _])
                    || behind.starts_with(KEY_BEGINS)
            }
            b'J' => before.ends_with(b"ey"),
            b'K' | b'S' => before.ends_with(b"A") && behind[1..].starts_with(b"IA"),
            b'b' | b'B' => behind
                .get(1..6)
                .is_some_and(|rest| rest.eq_ignore_ascii_case(b"earer")),
            _ => {
                let (count, last) =
                    digits(behind).fold((0, 0), |(count, _), (place, _)| (count + 1, place));
                at = rare + last + 1;
                count >= 13
            }
        };
        if loud {
            return Some(rare);
        }
    }
    None
}

fn next_rare(text: &[u8], from: usize) -> Option<usize> {
    let is_rare = |byte: &u8| RARE[usize::from(*byte)];
    let rest = text.get(from..)?;
    let blocks = rest.chunks_exact(BLOCK);
    let quiet =
        blocks.take_while(|block| !block.iter().fold(false, |any, byte| any | is_rare(byte)));
    let at = from + quiet.count() * BLOCK;
    text[at..]
        .iter()
        .position(is_rare)
        .map(|offset| at + offset)
}
