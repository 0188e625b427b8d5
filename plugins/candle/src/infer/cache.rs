//! Keys and values of the places before.

use candle_core::{DType, Device, Result as Computed, Tensor};

/// Places for which there is room at first.
const FIRST_PLACES: usize = 256;

/// The keys and values of a layer. There is room for more places than there are, and when it runs out for twice
/// as many.
#[derive(Debug)]
pub(super) struct Cache {
    heads: usize,
    head: usize,
    /// Places for which there is never more room.
    context: usize,
    dtype: DType,
    device: Device,
    len: usize,
    /// Of shape (heads, room, head).
    kept: Option<(Tensor, Tensor)>,
}

impl Cache {
    pub(super) fn new(
        (heads, head): (usize, usize),
        context: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self {
            heads,
            head,
            context,
            dtype,
            device: device.clone(),
            len: 0,
            kept: None,
        }
    }

    /// Places that are kept.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Forgets the places from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> u64 {
        (2 * self.heads * self.room() * self.head * self.dtype.size_in_bytes()) as u64
    }

    fn room(&self) -> usize {
        self.kept.as_ref().map_or(0, |(keys, _)| keys.dims()[1])
    }

    /// Adds places, of shape (heads, places, head).
    pub(super) fn push(&mut self, keys: &Tensor, values: &Tensor) -> Computed<()> {
        let len = self.len + keys.dim(1)?;
        self.reserve(len)?;
        let Some((kept_keys, kept_values)) = &self.kept else {
            candle_core::bail!("there is no room for keys and values");
        };
        kept_keys.slice_set(&keys.contiguous()?, 1, self.len)?;
        kept_values.slice_set(&values.contiguous()?, 1, self.len)?;
        self.len = len;
        Ok(())
    }

    /// Keys and values of the places from `start` on, each of shape (heads, places, head).
    pub(super) fn since(&self, start: usize) -> Computed<(Tensor, Tensor)> {
        let Some((keys, values)) = &self.kept else {
            candle_core::bail!("no keys and values are kept");
        };
        let places = self.len - start;
        Ok((
            keys.narrow(1, start, places)?,
            values.narrow(1, start, places)?,
        ))
    }

    fn reserve(&mut self, places: usize) -> Computed<()> {
        let room = self.room();
        if places <= room {
            return Ok(());
        }
        let room = places
            .max(2 * room)
            .max(FIRST_PLACES)
            .min(self.context.max(places));
        let shape = (self.heads, room, self.head);
        let grown = |old: Option<&Tensor>| {
            let new = Tensor::zeros(shape, self.dtype, &self.device)?;
            if let Some(old) = old.filter(|_| self.len > 0) {
                new.slice_set(&old.narrow(1, 0, self.len)?.contiguous()?, 1, 0)?;
            }
            Ok::<_, candle_core::Error>(new)
        };
        let (keys, values) = self
            .kept
            .as_ref()
            .map(|(keys, values)| (keys, values))
            .unzip();
        self.kept = Some((grown(keys)?, grown(values)?));
        Ok(())
    }
}
