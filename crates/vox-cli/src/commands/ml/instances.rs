//! The instances of a model that is served: each answers one request at a time, and remembers the last, so that
//! a prompt that begins alike is computed from where it differs. Conversations that take turns therefore each get
//! an instance of their own, as far as there are enough.
//!
//! What must stay true: an instance is idle, or held by one thread; one that a thread held when it panicked is
//! given back like every other. One that cannot answer is kept as the reason for that, so that nothing of what died
//! stays in memory, and whoever holds it next loads the model anew.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vox_host::contract::inference_backend::Prompt;

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

struct Instance<A> {
    /// What answers, or else why nothing does.
    answerer: Result<A, String>,
    known: Known,
}

/// What an instance has computed last.
enum Known {
    Nothing,
    /// A text with its answer.
    Text(String),
    /// A prompt of tokens.
    Tokens(Vec<u32>),
}

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
                idle: answerers
                    .into_iter()
                    .map(|answerer| Instance::new(Ok(answerer)))
                    .collect(),
                fault: String::new(),
            }),
            returned: Condvar::new(),
        }
    }

    /// Holds an instance as soon as there is one. Where there is the choice, it is one that can answer; among
    /// those, the one that knows most of the prompt beyond what it would have to forget for it, else the one that
    /// has been idle for longest.
    pub(super) fn hold(&self, prompt: Option<&Prompt>) -> Held<'_, A> {
        let mut state = self.state();
        while state.idle.is_empty() {
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let worth = |instance: &Instance<A>| {
            let gain = prompt.map_or(0, |prompt| instance.known.gain(prompt));
            (instance.answerer.is_ok(), gain)
        };
        // Of several that are worth most the last in this order is taken, which has been idle for longest.
        let places = state.idle.iter().enumerate().rev();
        let best = places.max_by_key(|(_, instance)| worth(instance));
        let best = best.map_or(0, |(place, _)| place);
        self.held(state.idle.remove(best))
    }

    /// Holds an instance that cannot answer, where one is idle.
    pub(super) fn hold_broken(&self) -> Option<Held<'_, A>> {
        let mut state = self.state();
        let mut idle = state.idle.iter();
        let broken = idle.position(|instance| instance.answerer.is_err())?;
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
        let answerer = self.instance.answerer.as_mut();
        answerer.map_err(|fault| fault.clone())
    }

    /// Puts another answerer in the place of this one, or the reason why there is none.
    pub(super) fn set(&mut self, answerer: Result<A, String>) {
        let was_whole = self.instance.answerer.is_ok();
        let mut state = self.instances.state();
        state.whole = state.whole + usize::from(answerer.is_ok()) - usize::from(was_whole);
        if let Err(fault) = &answerer {
            state.fault.clone_from(fault);
        }
        drop(state);
        self.instance = Instance::new(answerer);
    }

    /// Notes which prompt was answered, and what: that is what is known from now on.
    pub(super) fn answered(&mut self, prompt: Prompt, answer: &str) {
        self.instance.known = Known::of(prompt, answer);
    }
}

impl<A> Instance<A> {
    fn new(answerer: Result<A, String>) -> Self {
        Self {
            answerer,
            known: Known::Nothing,
        }
    }
}

impl Known {
    fn of(prompt: Prompt, answer: &str) -> Self {
        match prompt {
            Prompt::Text(text) => Self::Text(text + answer),
            Prompt::Tokens(tokens) => Self::Tokens(tokens),
            // A server's: what that remembers is not known here.
            Prompt::Conversation(_) => Self::Nothing,
        }
    }

    /// How much more of this the prompt begins with than would be forgotten for it: bytes, or tokens.
    fn gain(&self, prompt: &Prompt) -> usize {
        let (common, all) = match (self, prompt) {
            (Self::Text(known), Prompt::Text(text)) => {
                (common(known.as_bytes(), text.as_bytes()), known.len())
            }
            (Self::Tokens(known), Prompt::Tokens(tokens)) => (common(known, tokens), known.len()),
            _ => (0, 0),
        };
        common.saturating_sub(all - common)
    }
}

/// How many items two lists have in common at their beginning.
fn common<T: PartialEq>(one: &[T], other: &[T]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

impl<A> Drop for Held<'_, A> {
    fn drop(&mut self) {
        let instance = mem::replace(&mut self.instance, Instance::new(Err(String::new())));
        self.instances.state().idle.push(instance);
        self.instances.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Answers a text, and says which of the instances did.
    fn answer(instances: &Instances<&'static str>, prompt: &str, answer: &str) -> &'static str {
        let prompt = Prompt::Text(prompt.to_owned());
        let mut held = instances.hold(Some(&prompt));
        held.answered(prompt, answer);
        held.answerer().copied().unwrap()
    }

    #[test]
    fn conversations_that_take_turns_each_have_an_instance() {
        let instances = Instances::new(vec!["first", "second"]);
        // They begin alike, and go on with what was answered.
        assert_eq!(answer(&instances, "You: hello. I: ", "good day. "), "first");
        assert_eq!(answer(&instances, "You: help! I: ", "at once. "), "second");
        let first = "You: hello. I: good day. You: well? I: ";
        assert_eq!(answer(&instances, first, "yes. "), "first");
        let second = "You: help! I: at once. You: now! I: ";
        assert_eq!(answer(&instances, second, "no. "), "second");
        // A third takes the place of the one that has not been heard of for longest.
        assert_eq!(answer(&instances, "Something else", " again"), "first");
        assert_eq!(answer(&instances, second, "no. "), "second");
    }

    #[test]
    fn a_long_beginning_that_is_known_is_worth_forgetting_a_short_end() {
        let instances = Instances::new(vec!["first", "second"]);
        let system = "these are many instructions, which every conversation begins with; ";
        assert_eq!(answer(&instances, &format!("{system}one"), "1"), "first");
        assert_eq!(answer(&instances, &format!("{system}two"), "2"), "first");
    }

    #[test]
    fn prompts_of_tokens_are_known_again() {
        let instances = Instances::new(vec!["first", "second"]);
        let tokens = |tokens: &[u32]| Prompt::Tokens(tokens.to_vec());
        instances.hold(None).answered(tokens(&[1, 2, 3]), "");
        instances.hold(None).answered(tokens(&[7, 8, 9]), "");
        let mut held = instances.hold(Some(&tokens(&[7, 8, 9, 10])));
        assert_eq!(held.answerer(), Ok(&mut "second"));
    }

    #[test]
    fn one_that_cannot_answer_is_held_last() {
        let instances = Instances::new(vec!["first", "second"]);
        instances.hold(None).set(Err("it died".to_owned()));
        assert_eq!(instances.hold(None).answerer(), Ok(&mut "second"));
        assert_eq!(instances.hold(None).answerer(), Ok(&mut "second"));
        let second = instances.hold(None);
        assert_eq!(instances.hold(None).answerer(), Err("it died".to_owned()));
        drop(second);
    }

    #[test]
    fn they_are_ready_while_one_of_them_can_answer_held_or_not() {
        let instances = Instances::new(vec!["first", "second"]);
        assert!(instances.hold_broken().is_none());
        let mut first = instances.hold(None);
        first.set(Err("it died".to_owned()));
        let mut second = instances.hold(None);
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
        let held = instances.hold(None);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let held = instances.hold(None);
                assert!(held.instance.answerer.is_err(), "as the test wants it");
            });
            drop(held);
            assert!(waiting.join().is_err());
        });
        assert_eq!(instances.hold(None).answerer(), Ok(&mut "only"));
    }
}
