//! Floats of tensors in host memory, as slices.

use std::cell::RefCell;
use std::ops::Deref;
use std::ops::Range;

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail,
};

/// The floats of a tensor, for as long as this is held.
pub(crate) struct Floats<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(floats)) => &floats[self.range.clone()],
            // `floats` makes none of another storage.
            _ => &[],
        }
    }
}

/// Whether a tensor is in host memory, and to be computed with there.
pub(crate) fn is_host(tensor: &Tensor) -> bool {
    computes_here(tensor.device())
}

/// Whether what is on a device is computed over slices.
pub(crate) fn computes_here(device: &Device) -> bool {
    #[cfg(test)]
    if composing::is_on() {
        return false;
    }
    matches!(device, Device::Cpu)
}

/// The floats of a tensor in host memory.
///
/// # Errors
///
/// Where it is on a device, of another type, or not contiguous.
pub(crate) fn floats(tensor: &Tensor) -> Result<Floats<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("a tensor of shape {:?} is not contiguous", tensor.shape())
    };
    if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
        bail!(
            "a tensor of {:?} is not one of floats in host memory",
            tensor.dtype()
        )
    }
    Ok(Floats {
        storage,
        range: from..to,
    })
}

/// A tensor of floats in host memory.
pub(crate) fn tensor(floats: Vec<f32>, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(floats, shape, &Device::Cpu)
}

/// A tensor of nothing but zeros.
pub(crate) fn zeros(shape: &[usize], device: &Device) -> Result<Tensor> {
    match device {
        Device::Cpu => tensor(vec![0.0; shape.iter().product()], shape),
        _ => Tensor::zeros(shape, DType::F32, device),
    }
}

/// Changes the floats of a tensor in host memory where they are; every tensor that shares them changes.
///
/// # Errors
///
/// As [`floats`].
pub(crate) fn change<R>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let op = Change(RefCell::new((Some(change), None)));
    tensor.inplace_op1(&op)?;
    let (_, result) = op.0.into_inner();
    match result {
        Some(result) => Ok(result),
        None => bail!("a tensor of {:?} is not in host memory", tensor.dtype()),
    }
}

/// A function that changes floats once, and then its result.
struct Change<F, R>(RefCell<(Option<F>, Option<R>)>);

impl<F: FnOnce(&mut [f32]) -> R, R> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (Some((from, to)), CpuStorage::F32(floats)) = (layout.contiguous_offsets(), storage)
        else {
            bail!("only contiguous floats are changed where they are")
        };
        let mut slot = self.0.borrow_mut();
        if let Some(change) = slot.0.take() {
            slot.1 = Some(change(&mut floats[from..to]));
        }
        Ok(())
    }
}

/// The way of devices on the processor, so that tests need none.
#[cfg(test)]
pub(crate) mod composing {
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_on() -> bool {
        ON.get()
    }

    /// Has this thread, and the threads of pools that it makes for sessions, compute as on a device.
    pub(crate) fn with<R>(work: impl FnOnce() -> R) -> R {
        ON.set(true);
        let result = work();
        ON.set(false);
        result
    }

    /// What makes a new thread compute as this one does.
    pub(crate) fn inherited() -> impl Fn(usize) + Send + Sync + 'static {
        let on = is_on();
        move |_| ON.set(on)
    }
}
