//! Cosines and sines of the positions that are computed.

use crate::architecture::Rope;

/// The angles of some positions that follow each other, for one rule.
#[derive(Debug)]
pub(super) struct Rotation {
    frequencies: Vec<f32>,
    factor: f32,
    /// Position after position, as many as there are frequencies.
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    /// Room for so many positions.
    pub(super) fn new(rope: &Rope, head: usize, positions: usize) -> Self {
        let frequencies = rope.frequencies(head);
        let room = vec![0.0; positions * frequencies.len()];
        Self {
            factor: rope.attention_factor() as f32,
            cosines: room.clone(),
            sines: room,
            frequencies,
        }
    }

    /// Computes `positions` angles from `first` on.
    pub(super) fn set(&mut self, first: usize, positions: usize) {
        let half = self.frequencies.len();
        let cosines = self.cosines.chunks_exact_mut(half);
        let rows = cosines
            .zip(self.sines.chunks_exact_mut(half))
            .take(positions);
        for (index, (cosines, sines)) in rows.enumerate() {
            let position = (first + index) as f32;
            let row = cosines.iter_mut().zip(sines).zip(&self.frequencies);
            for ((cosine, sine), frequency) in row {
                // The product in single precision, as models were trained with.
                let (s, c) = (position * frequency).sin_cos();
                *cosine = c * self.factor;
                *sine = s * self.factor;
            }
        }
    }

    /// Cosines and sines of a position, counted from the first.
    pub(super) fn row(&self, index: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let of = index * half..(index + 1) * half;
        (&self.cosines[of.clone()], &self.sines[of])
    }
}
