//! Which groups of steps may start now, and which never will.
//!
//! Owns the state of every step of one run as far as order is concerned. It starts nothing itself
//! and knows no clock: the dispatcher tells it what happened and asks what follows, so that every
//! decision can be tested without a plugin. What must stay true:
//!
//! - A group is handed out once, and only after everything that it needs has succeeded.
//! - A step that is not handed out by the time that nothing runs has been reported as skipped,
//!   with the step whose failure is the cause.
//! - All its work over a run takes time in proportion to the graph.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use crate::graph::{Graph, Group, GroupIndex, StepIndex};

/// The order of a run in progress.
#[derive(Debug)]
pub(crate) struct Schedule<'g> {
    graph: &'g Graph,
    /// For each group, how many of its needs have not succeeded yet.
    unmet: Vec<usize>,
    state: Vec<State>,
    /// Groups whose needs are met, in the order of the plan.
    ready: BTreeSet<GroupIndex>,
    /// Steps that were handed out and have not ended.
    running: usize,
    /// How many steps may run at once.
    jobs: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Of a group: not started and not given up.
    Waiting,
    Started,
    Skipped,
}

/// A step that will not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub step: StepIndex,
    /// The step of the same group that cannot start; often the step itself.
    pub held_by: StepIndex,
    /// What that one needs and will not get.
    pub need: StepIndex,
}

impl<'g> Schedule<'g> {
    pub fn new(graph: &'g Graph, jobs: NonZeroUsize) -> Self {
        let unmet: Vec<usize> = graph
            .groups()
            .iter()
            .map(|group| group.needs.len())
            .collect();
        let ready = (0..unmet.len())
            .filter(|group| unmet[*group] == 0)
            .collect();
        let state = vec![State::Waiting; unmet.len()];
        Self {
            graph,
            unmet,
            state,
            ready,
            running: 0,
            jobs,
        }
    }

    /// The next group to start, if one is ready and its steps fit beside those that run. A group
    /// larger than the number of jobs starts alone.
    pub fn start(&mut self) -> Option<GroupIndex> {
        let free = self.jobs.get().saturating_sub(self.running);
        if free == 0 && self.running > 0 {
            return None;
        }
        let fits = |group: &GroupIndex| {
            let size = self.graph.groups()[*group].members.len();
            size <= free || self.running == 0
        };
        let group = self.ready.iter().copied().find(fits)?;
        self.ready.remove(&group);
        self.state[group] = State::Started;
        self.running += self.graph.groups()[group].members.len();
        Some(group)
    }

    /// A step that was handed out has succeeded.
    pub fn succeeded(&mut self, step: StepIndex) {
        self.running -= 1;
        for group in self.graph.dependants(step) {
            self.unmet[*group] -= 1;
            if self.unmet[*group] == 0 && self.state[*group] == State::Waiting {
                self.ready.insert(*group);
            }
        }
    }

    /// A step that was handed out has ended in another way; answers what can no longer run.
    pub fn failed(&mut self, step: StepIndex) -> Vec<Skip> {
        self.running -= 1;
        self.give_up_dependants(step)
    }

    /// Gives up everything that has not started; answers those steps.
    pub fn stop(&mut self) -> Vec<StepIndex> {
        self.ready.clear();
        let mut stopped = Vec::new();
        for (group, state) in self.state.iter_mut().enumerate() {
            if *state == State::Waiting {
                *state = State::Skipped;
                stopped.extend(&self.graph.groups()[group].members);
            }
        }
        stopped
    }

    /// Whether nothing runs and nothing will.
    pub fn is_over(&self) -> bool {
        self.running == 0 && self.ready.is_empty()
    }

    fn give_up_dependants(&mut self, failed: StepIndex) -> Vec<Skip> {
        let mut skips = Vec::new();
        let mut lost = VecDeque::from([failed]);
        while let Some(need) = lost.pop_front() {
            for group in self.graph.dependants(need) {
                if self.state[*group] != State::Waiting {
                    continue;
                }
                self.state[*group] = State::Skipped;
                let Group { members, needs, .. } = &self.graph.groups()[*group];
                let unmet = needs.binary_search_by_key(&need, |need| need.step);
                for step in members {
                    let held_by = unmet.map_or(*step, |at| needs[at].by);
                    skips.push(Skip {
                        step: *step,
                        held_by,
                        need,
                    });
                    lost.push_back(*step);
                }
            }
        }
        skips
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    /// A plan with a step for each word: `c:a,b<d` needs a and b and reads d.
    fn plan(words: &str) -> Plan {
        let steps: Vec<_> = words
            .split_whitespace()
            .map(|word| {
                let (waits, source) = word.split_once('<').unwrap_or((word, ""));
                let (key, needs) = waits.split_once(':').unwrap_or((waits, ""));
                let needs: Vec<&str> = needs.split_terminator(',').collect();
                let mut step = serde_json::json!({ "key": key, "uses": "exec", "needs": needs });
                if !source.is_empty() {
                    step["inputs"] =
                        serde_json::json!({ "in": { "from": format!("{source}.out") } });
                }
                step
            })
            .collect();
        let plan = serde_json::json!({ "pipeline": { "name": "p" }, "step": steps });
        Plan::parse(&plan.to_string(), "-").unwrap()
    }

    fn jobs(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    /// Starts all that may start; answers the steps.
    fn started(schedule: &mut Schedule<'_>) -> Vec<StepIndex> {
        let graph = schedule.graph;
        std::iter::from_fn(|| schedule.start())
            .flat_map(|group| graph.groups()[group].members.clone())
            .collect()
    }

    #[test]
    fn a_step_starts_when_all_that_it_needs_has_succeeded() {
        let plan = plan("a b c:a,b");
        let mut schedule = Schedule::new(plan.graph(), jobs(8));
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.succeeded(0);
        assert!(started(&mut schedule).is_empty());
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
        schedule.succeeded(2);
        assert!(schedule.is_over());
    }

    #[test]
    fn steps_that_a_stream_joins_start_together_even_beyond_the_jobs() {
        let plan = plan("a b<a c<b");
        let mut schedule = Schedule::new(plan.graph(), jobs(2));
        assert_eq!(started(&mut schedule), [0, 1, 2]);
    }

    #[test]
    fn no_more_steps_run_at_once_than_there_are_jobs() {
        let plan = plan("a b c d");
        let mut schedule = Schedule::new(plan.graph(), jobs(2));
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn a_failure_skips_all_that_depends_on_it_and_nothing_else() {
        let plan = plan("a b:a c:b d<c e");
        let mut schedule = Schedule::new(plan.graph(), jobs(1));
        assert_eq!(started(&mut schedule), [0]);
        let skips = schedule.failed(0);
        let skip = |step, held_by, need| Skip {
            step,
            held_by,
            need,
        };
        assert_eq!(skips, [skip(1, 1, 0), skip(2, 2, 1), skip(3, 2, 1)]);
        assert_eq!(started(&mut schedule), [4]);
        schedule.succeeded(4);
        assert!(schedule.is_over());
    }

    #[test]
    fn a_dependant_is_skipped_once_however_many_of_its_needs_fail() {
        let plan = plan("a b c:a,b");
        let mut schedule = Schedule::new(plan.graph(), jobs(2));
        started(&mut schedule);
        assert_eq!(schedule.failed(0).len(), 1);
        assert_eq!(schedule.failed(1).len(), 0);
        assert!(schedule.is_over());
    }

    #[test]
    fn stopping_gives_up_all_that_has_not_started() {
        let plan = plan("a b:a c");
        let mut schedule = Schedule::new(plan.graph(), jobs(1));
        assert_eq!(started(&mut schedule), [0]);
        assert_eq!(schedule.stop(), [1, 2]);
        assert!(!schedule.is_over());
        schedule.succeeded(0);
        assert!(schedule.is_over());
        assert_eq!(schedule.start(), None);
    }
}
