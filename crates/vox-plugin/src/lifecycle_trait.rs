//! What an author writes of `lifecycle`, and the slot that serves it.
//!
//! An instance exists before `init` gives it a value, so the host's calls arrive at a [`Slot`];
//! everything but `init` needs the slot to be filled.

use crate::lifecycle::{Condition, LifecycleExports, SavedState};
use crate::{Error, Result};

/// How an instance of a plugin begins, reports, hands its state over, and ends.
///
/// `#[plugin(…)]` writes this for types that begin as their `Default`; name `lifecycle` in the
/// attribute to implement it.
///
/// A plugin's type is `Send`: the host enters an instance from one thread at a time, but not always
/// from the same one.
///
/// ```compile_fail,E0277
/// /// Holds something that must stay on its thread.
/// #[vox_plugin::plugin(service)]
/// #[derive(Default)]
/// struct Bound(std::rc::Rc<()>);
///
/// impl vox_plugin::Service for Bound {
///     fn invoke(&mut self, _service: &str, _request: &[u8]) -> vox_plugin::Result<Vec<u8>> {
///         Ok(Vec::new())
///     }
/// }
/// ```
pub trait Lifecycle: Sized + Send + 'static {
    /// Starts an instance. `config` is a JSON object, the plugin's own table of the user's
    /// configuration; [`from_json`](crate::from_json) reads it into a type.
    ///
    /// # Errors
    ///
    /// The instance cannot start; the error is shown to the user.
    fn init(config: &str) -> Result<Self>;

    /// How the instance is doing. Answers at once.
    fn health(&mut self) -> Condition {
        Condition::Ready
    }

    /// The state that a successor needs; none when there is no state.
    ///
    /// # Errors
    ///
    /// The state cannot be taken; the instance goes on serving.
    fn snapshot(&mut self) -> Result<Option<SavedState>> {
        Ok(None)
    }

    /// Takes a predecessor's state over, right after `init`.
    ///
    /// # Errors
    ///
    /// The state is not one that this version reads; the predecessor goes on serving.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<()> {
        let _ = state;
        Err(Error::Invalid(format!(
            "this plugin keeps no state, so it cannot restore state of version {version}"
        )))
    }

    /// Ends the instance: last chance to write out.
    ///
    /// # Errors
    ///
    /// Something was lost; the error is logged.
    fn shutdown(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The place of an instance's value: empty until `init`, and again after `shutdown`.
#[doc(hidden)]
pub struct Slot<T> {
    pub(crate) value: Option<T>,
}

impl<T> Slot<T> {
    pub(crate) const EMPTY: Self = Self { value: None };
}

impl<T: Lifecycle> Slot<T> {
    fn filled(&mut self) -> Result<&mut T> {
        self.value.as_mut().ok_or_else(|| {
            Error::Unavailable("this instance was not initialised, or was shut down".to_owned())
        })
    }
}

impl<T: Lifecycle> LifecycleExports for Slot<T> {
    fn init(&mut self, config: &str) -> Result<()> {
        self.value = Some(T::init(config)?);
        Ok(())
    }

    fn health(&mut self) -> Condition {
        match self.filled() {
            Ok(plugin) => plugin.health(),
            Err(_) => Condition::Failing("not initialised".to_owned()),
        }
    }

    fn snapshot(&mut self) -> Result<Option<SavedState>> {
        self.filled()?.snapshot()
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<()> {
        self.filled()?.restore(version, state)
    }

    fn shutdown(&mut self) -> Result<()> {
        let result = self.filled()?.shutdown();
        self.value = None;
        result
    }
}
