//! What was handed on of an answer, for the numbers at its end and for the error in its middle.

use vox_plugin::host::generation::Piece;

/// Counts the pieces that go out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Pieces that were handed on.
    pub pieces: u32,
    /// Characters in them.
    pub characters: u64,
}

impl Said {
    /// Counts a piece.
    pub fn count(&mut self, piece: &Piece) {
        self.pieces = self.pieces.saturating_add(1);
        self.characters += piece.text.chars().count() as u64;
    }

    /// How far the answer came, for an error.
    pub fn describe(self) -> String {
        match self.pieces {
            0 => "before the first token".to_owned(),
            1 => format!("after 1 token with {} characters", self.characters),
            pieces => format!("after {pieces} tokens with {} characters", self.characters),
        }
    }
}
