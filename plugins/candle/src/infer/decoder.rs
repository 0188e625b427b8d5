//! What computes a model, behind one interface.

use std::ops::Range;
use std::sync::Arc;

use super::DeviceInfo;
use crate::architecture::DecoderArchitecture;
use crate::error::Result;

/// The weights of a model on a device, which any number of sequences share.
pub trait Engine: Send + Sync {
    /// What the model is made of.
    fn architecture(&self) -> &DecoderArchitecture;

    /// Where it is.
    fn device(&self) -> &DeviceInfo;

    /// How most of the weights are held: `f32`, `q8_0`, `q4_1`.
    fn format(&self) -> String;

    /// Bytes of the weights on the device.
    fn bytes(&self) -> u64;

    /// Begins a sequence of at most `context` tokens.
    fn decoder(self: Arc<Self>, context: usize) -> Box<dyn Decoder>;
}

/// What layers read.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Tokens, for layer 0.
    Tokens(&'a [u32]),
    /// Hidden states place by place, for every other layer.
    Hidden(&'a [f32]),
}

/// One sequence: it keeps the keys and values of its places.
///
/// Calls give places from `position` on, and what there was from there on is forgotten; `position` is at most
/// [`len`](Self::len). After an error no place is kept.
pub trait Decoder: Send {
    /// Computes the places of `tokens`, of which there is at least one; `logits` becomes those of the last, one
    /// for each token of the vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::Request`](crate::Error::Request) for places beyond the context, a gap before them, or tokens
    /// that are not embedded; [`Error::Compute`](crate::Error::Compute).
    fn forward(&mut self, tokens: &[u32], position: usize, logits: &mut Vec<f32>) -> Result<()>;

    /// Computes a range of layers. `out` becomes the hidden states after them, or after the model's last layer
    /// the logits, place by place. One decoder computes one range alone.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward); also for layers that there are not, and an input that is not theirs.
    fn forward_layers(
        &mut self,
        layers: Range<usize>,
        input: Input<'_>,
        position: usize,
        out: &mut Vec<f32>,
    ) -> Result<()>;

    /// Computes the places of `tokens`; `out` becomes the states that the head would read, place by place.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    fn states(&mut self, tokens: &[u32], position: usize, out: &mut Vec<f32>) -> Result<()>;

    /// Places whose keys and values are kept.
    fn len(&self) -> usize;

    /// Whether no place is kept.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the places from `len` on.
    fn truncate(&mut self, len: usize);

    /// Bytes of keys and values on the device.
    fn bytes(&self) -> u64;
}
