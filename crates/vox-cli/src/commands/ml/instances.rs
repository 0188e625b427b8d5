//! The instances of a model that is served: each answers one request at a time.
//!
//! What must stay true: an instance is idle, or held by one thread; one that a thread held when it panicked is
//! given back like every other. One that cannot answer is kept as the reason for that, so that nothing of what died
//! stays in memory, and whoever holds it next loads the model anew.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The instances, of which `A` answers.
pub(super) struct Instances<A> {
    state: Mutex<State<A>>,
    /// Somebody gave one back.
    returned: Condvar,
}

/// What the lock guards; nothing is called under it.
struct State<A> {
    /// The one that has been idle for longest is the first.
    idle: Vec<Instance<A>>,
    /// Those that can answer, idle or held.
    whole: usize,
    /// Why the last that broke cannot.
    fault: String,
}

/// One of them: what answers, or else why nothing does.
type Instance<A> = Result<A, String>;

/// An instance that is held, and given back with this value.
pub(super) struct Held<'a, A> {
    instances: &'a Instances<A>,
    instance: Instance<A>,
}

impl<A> Instances<A> {
    /// Instances that can answer.
    pub(super) fn new(answerers: Vec<A>) -> Self {
        Self {
            state: Mutex::new(State {
                whole: answerers.len(),
                idle: answerers.into_iter().map(Ok).collect(),
                fault: String::new(),
            }),
            returned: Condvar::new(),
        }
    }

    /// Holds an instance as soon as there is one: one that can answer where there is the choice.
    pub(super) fn hold(&self) -> Held<'_, A> {
        let mut state = self.state();
        while state.idle.is_empty() {
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let whole = state.idle.iter().position(Result::is_ok);
        self.held(state.idle.remove(whole.unwrap_or(0)))
    }

    /// Holds an instance that cannot answer, where one is idle.
    pub(super) fn hold_broken(&self) -> Option<Held<'_, A>> {
        let mut state = self.state();
        let broken = state.idle.iter().position(Result::is_err)?;
        Some(self.held(state.idle.remove(broken)))
    }

    /// Whether any can answer.
    ///
    /// # Errors
    ///
    /// Why none can.
    pub(super) fn ready(&self) -> Result<(), String> {
        let state = self.state();
        match state.whole {
            0 => Err(state.fault.clone()),
            _ => Ok(()),
        }
    }

    fn held(&self, instance: Instance<A>) -> Held<'_, A> {
        Held {
            instances: self,
            instance,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> Held<'_, A> {
    /// What answers.
    ///
    /// # Errors
    ///
    /// Why nothing does.
    pub(super) fn answerer(&mut self) -> Result<&mut A, String> {
        self.instance.as_mut().map_err(|fault| fault.clone())
    }

    /// Puts another answerer in the place of this one, or the reason why there is none.
    pub(super) fn set(&mut self, instance: Result<A, String>) {
        let mut state = self.instances.state();
        state.whole =
            state.whole + usize::from(instance.is_ok()) - usize::from(self.instance.is_ok());
        if let Err(fault) = &instance {
            state.fault.clone_from(fault);
        }
        drop(state);
        self.instance = instance;
    }
}

impl<A> Drop for Held<'_, A> {
    fn drop(&mut self) {
        let instance = mem::replace(&mut self.instance, Err(String::new()));
        self.instances.state().idle.push(instance);
        self.instances.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_that_cannot_answer_is_held_last() {
        let instances = Instances::new(vec!["first", "second"]);
        instances.hold().set(Err("it died".to_owned()));
        assert_eq!(instances.hold().answerer(), Ok(&mut "second"));
        assert_eq!(instances.hold().answerer(), Ok(&mut "second"));
        let second = instances.hold();
        assert_eq!(instances.hold().answerer(), Err("it died".to_owned()));
        drop(second);
    }

    #[test]
    fn they_are_ready_while_one_of_them_can_answer_held_or_not() {
        let instances = Instances::new(vec!["first", "second"]);
        assert!(instances.hold_broken().is_none());
        let mut first = instances.hold();
        first.set(Err("it died".to_owned()));
        let mut second = instances.hold();
        assert_eq!(instances.ready(), Ok(()));
        second.set(Err("so did this".to_owned()));
        assert_eq!(instances.ready(), Err("so did this".to_owned()));
        // Whoever tries to mend one changes nothing before it is mended.
        drop((first, second));
        let mut broken = instances.hold_broken().unwrap();
        assert!(instances.ready().is_err());
        broken.set(Ok("third"));
        assert_eq!(instances.ready(), Ok(()));
    }

    #[test]
    fn one_is_waited_for_and_comes_back_from_a_thread_that_panics() {
        let instances = Instances::new(vec!["only"]);
        let held = instances.hold();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let held = instances.hold();
                assert!(held.instance.is_err(), "as the test wants it");
            });
            drop(held);
            assert!(waiting.join().is_err());
        });
        assert_eq!(instances.hold().answerer(), Ok(&mut "only"));
    }
}
