//! The component carrier's glue: the one instance of a component, and panics with a message.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Once;

use crate::host::log::{self, Level};
use crate::{Error, Lifecycle, Slot, attribute};

/// The place of a component's value.
pub struct Global<T>(RefCell<Slot<T>>);

// SAFETY: a component has one thread.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// An empty place.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(RefCell::new(Slot::EMPTY))
    }
}

/// A plugin type with its place. `#[plugin(…)]` implements it.
pub trait Exported: Lifecycle {
    /// The place of the value.
    fn slot() -> &'static Global<Self>;
}

/// What `wit-bindgen`'s export macros are applied to.
pub struct Export<T>(PhantomData<T>);

/// Enters the slot, for `lifecycle`.
pub fn with_slot<T: Exported, R>(work: impl FnOnce(&mut Slot<T>) -> R) -> R {
    report_panics_to_the_host();
    work(&mut T::slot().0.borrow_mut())
}

/// Enters the value, for every other extension point.
pub fn with<T: Exported, R>(work: impl FnOnce(&mut T) -> R) -> R {
    with_slot(|slot: &mut Slot<T>| match &mut slot.value {
        Some(plugin) => work(plugin),
        None => panic!("this instance was not initialised, or was shut down"),
    })
}

/// Puts numbers that the host changed in the place of those that were sent to it.
pub fn replace(sent: &mut [f32], changed: &[f32], name: &str) -> Result<(), Error> {
    if sent.len() != changed.len() {
        return Err(Error::Failed(format!(
            "`{name}` answered {} numbers for {}",
            changed.len(),
            sent.len()
        )));
    }
    sent.copy_from_slice(changed);
    Ok(())
}

/// A panic ends a component with a bare trap, so its message goes ahead as a log record with the
/// field `panic`, which the host attaches to the error.
fn report_panics_to_the_host() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = panic
                .payload_as_str()
                .unwrap_or("a panic without a message");
            let text = format!("panicked at {location}: {message}");
            log::write(Level::Error, &text, &[attribute("panic", location)]);
        }));
    });
}
