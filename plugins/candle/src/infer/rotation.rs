//! Cosines and sines of rotary positions.

use candle_core::{DType, Device, Result as Computed, Tensor};
use candle_nn::rotary_emb;

use crate::architecture::Rope;

/// The places for which a table is made at first.
const FIRST_PLACES: usize = 256;

/// A table of cosines and sines for one rule, which grows with the sequence.
#[derive(Debug)]
pub(super) struct Rotation {
    frequencies: Vec<f32>,
    factor: f32,
    dtype: DType,
    device: Device,
    /// Of shape (places, half of a head).
    table: Option<(Tensor, Tensor)>,
}

impl Rotation {
    pub(super) fn new(rope: &Rope, head: usize, dtype: DType, device: &Device) -> Self {
        Self {
            frequencies: rope.frequencies(head),
            factor: rope.attention_factor() as f32,
            dtype,
            device: device.clone(),
            table: None,
        }
    }

    /// Turns heads of shape (heads, places, elements), whose first place is `position`.
    pub(super) fn turn(&self, heads: &Tensor, position: usize) -> Computed<Tensor> {
        let places = heads.dim(1)?;
        let Some((cosines, sines)) = &self.table else {
            candle_core::bail!("there is no table of positions");
        };
        let cosines = cosines.narrow(0, position, places)?;
        let sines = sines.narrow(0, position, places)?;
        let heads = heads.unsqueeze(0)?.contiguous()?;
        rotary_emb::rope(&heads, &cosines, &sines)?.squeeze(0)
    }

    /// Makes the table long enough for so many places.
    pub(super) fn reach(&mut self, places: usize) -> Computed<()> {
        let known = self
            .table
            .as_ref()
            .map_or(0, |(cosines, _)| cosines.dims()[0]);
        if places <= known {
            return Ok(());
        }
        let places = places.next_power_of_two().max(FIRST_PLACES);
        let half = self.frequencies.len();
        // Products in single precision, as the models were trained with.
        let angles = (0..places).flat_map(|place| {
            self.frequencies
                .iter()
                .map(move |frequency| place as f32 * frequency)
        });
        let (sines, cosines): (Vec<f32>, Vec<f32>) = angles
            .map(|angle| (angle.sin() * self.factor, angle.cos() * self.factor))
            .unzip();
        let table = |values: Vec<f32>| {
            Tensor::from_vec(values, (places, half), &self.device)?.to_dtype(self.dtype)
        };
        self.table = Some((table(cosines)?, table(sines)?));
        Ok(())
    }
}
