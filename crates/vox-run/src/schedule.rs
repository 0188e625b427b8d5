//! Which groups of steps may start now, and which never will.
//!
//! Owns the state of every step of one run as far as order and room are concerned. It starts nothing
//! itself and knows no clock: the dispatcher tells it what happened and asks what follows, so that
//! every decision can be tested without a plugin. What must stay true:
//!
//! - A group is handed out once, and only after everything that it needs has come to the end that it
//!   asks for.
//! - What runs never takes more than there is, of processors, memory and instances of plugins, unless one group
//!   alone takes more processors. What does not fit is passed by what does.
//! - A step that is not handed out by the time that nothing runs has been reported as skipped,
//!   with the step whose failure is the cause.
//! - Of what may start, that goes first from which the longest way leads to the end of the run.
//! - All its work over a run takes time in proportion to the graph.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use crate::graph::{Graph, Group, GroupIndex, StepIndex};
use crate::plan::Resources;

/// The order of a run in progress.
#[derive(Debug)]
pub(crate) struct Schedule<'g> {
    graph: &'g Graph,
    /// For each group, how long the way is from its start to the end of the run.
    ranks: Vec<u64>,
    /// What each group takes.
    costs: Vec<Amount>,
    /// For each group, how many of its needs have not come to their end yet.
    unmet: Vec<usize>,
    state: Vec<State>,
    /// Groups whose needs are met, the most urgent first.
    ready: BTreeSet<(Reverse<u64>, GroupIndex)>,
    /// For each group that runs, how many of its steps have not ended.
    unfinished: Vec<usize>,
    /// Groups that were handed out and have not ended.
    running: usize,
    /// What is not taken.
    free: Amount,
    instances: Instances,
    /// Whether only what runs however others have ended is handed out.
    holds: bool,
    /// Steps whose end others have been told of.
    told: Vec<bool>,
}

/// Processors, bytes of memory and graphics processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub cpus: u64,
    pub memory: u64,
    pub gpus: u64,
}

impl Amount {
    /// What one step takes.
    pub fn of(resources: &Resources) -> Self {
        Self {
            cpus: resources.cpus.unwrap_or(1).into(),
            memory: resources.memory.map_or(0, |memory| memory.get()),
            gpus: resources.gpu.unwrap_or(0).into(),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_add(other.cpus),
            memory: self.memory.saturating_add(other.memory),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.saturating_sub(other.cpus),
            memory: self.memory.saturating_sub(other.memory),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    fn fits(self, free: Self) -> bool {
        self.cpus <= free.cpus && self.memory <= free.memory && self.gpus <= free.gpus
    }
}

/// Instances of plugins, which have a limit of their own each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instances {
    /// For each group, how many it takes of which plugins, by their positions in `free`; never more than there
    /// may be.
    pub taken: Vec<Vec<(usize, u32)>>,
    /// For each plugin, how many there may be besides those that are taken.
    pub free: Vec<u32>,
}

impl Instances {
    /// Whether what a group takes is free.
    fn suffice(&self, group: GroupIndex) -> bool {
        let mut taken = self.taken.get(group).into_iter().flatten();
        taken.all(|(plugin, count)| *count <= self.free[*plugin])
    }

    fn take(&mut self, group: GroupIndex) {
        for (plugin, count) in self.taken.get(group).into_iter().flatten() {
            self.free[*plugin] -= count;
        }
    }

    fn give_back(&mut self, group: GroupIndex) {
        for (plugin, count) in self.taken.get(group).into_iter().flatten() {
            self.free[*plugin] += count;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Of a group: not started and not given up.
    Waiting,
    Started,
    Ended,
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
    /// `ranks` says of each group how long the way from it to the end is, `costs` of each step what
    /// it takes, and `room` what there is; `instances` says both of instances of plugins.
    pub fn new(
        graph: &'g Graph,
        ranks: Vec<u64>,
        costs: impl Fn(StepIndex) -> Amount,
        room: Amount,
        instances: Instances,
    ) -> Self {
        let groups = graph.groups();
        let unmet: Vec<usize> = groups.iter().map(|group| group.needs.len()).collect();
        let ready = (0..unmet.len())
            .filter(|group| unmet[*group] == 0)
            .map(|group| (Reverse(ranks[group]), group))
            .collect();
        let cost = |group: &Group| {
            let members = group.members.iter().map(|step| costs(*step));
            let mut cost = members.fold(Amount::default(), Amount::and);
            // A group larger than the machine runs all the same, alone; the steps that streams join
            // have to start together.
            cost.cpus = cost.cpus.min(room.cpus);
            cost
        };
        Self {
            graph,
            ranks,
            costs: groups.iter().map(cost).collect(),
            state: vec![State::Waiting; unmet.len()],
            unfinished: groups.iter().map(|group| group.members.len()).collect(),
            unmet,
            ready,
            running: 0,
            free: room,
            holds: false,
            instances,
            told: vec![false; groups.iter().map(|group| group.members.len()).sum()],
        }
    }

    /// The next group to start, if one is ready and fits beside those that run.
    pub fn start(&mut self) -> Option<GroupIndex> {
        if self.free.cpus == 0 {
            return None;
        }
        let fits = |(_, group): &&(Reverse<u64>, GroupIndex)| {
            self.costs[*group].fits(self.free)
                && self.instances.suffice(*group)
                && (!self.holds || self.stays(*group))
        };
        let next = *self.ready.iter().find(fits)?;
        self.ready.remove(&next);
        let group = next.1;
        self.state[group] = State::Started;
        self.free = self.free.without(self.costs[group]);
        self.instances.take(group);
        self.running += 1;
        Some(group)
    }

    /// A step that was handed out has succeeded; answers what can no longer run.
    pub fn succeeded(&mut self, step: StepIndex) -> Vec<Skip> {
        self.finish(step);
        self.settled(VecDeque::from([(step, true)]))
    }

    /// A step that was handed out has ended in another way; answers what can no longer run.
    pub fn failed(&mut self, step: StepIndex) -> Vec<Skip> {
        self.finish(step);
        self.settled(VecDeque::from([(step, false)]))
    }

    /// Hands nothing out from here on that [`stop`](Self::stop) is about to give up.
    pub fn hold(&mut self) {
        self.holds = true;
    }

    /// An earlier run has carried out these steps, which are whole groups.
    pub fn done_before(&mut self, steps: &[StepIndex]) {
        for step in steps {
            let group = self.graph.group_of(*step);
            self.state[group] = State::Ended;
            self.ready.remove(&(Reverse(self.ranks[group]), group));
        }
        for step in steps {
            self.settled(VecDeque::from([(*step, true)]));
        }
    }

    /// Gives up what has not started and waits for what it needs to succeed; answers those steps.
    /// What runs however others have ended stays, unless `all` is to go.
    pub fn stop(&mut self, all: bool) -> Vec<StepIndex> {
        self.holds = false;
        let mut stopped = Vec::new();
        let mut lost = VecDeque::new();
        for (index, group) in self.graph.groups().iter().enumerate() {
            let stays = !all && self.stays(index);
            if self.state[index] == State::Waiting && !stays {
                self.state[index] = State::Skipped;
                self.ready.remove(&(Reverse(self.ranks[index]), index));
                stopped.extend(&group.members);
                lost.extend(group.members.iter().map(|step| (*step, false)));
            }
        }
        stopped.extend(self.settled(lost).into_iter().map(|skip| skip.step));
        stopped
    }

    /// Whether a group runs however what it needs has ended.
    fn stays(&self, group: GroupIndex) -> bool {
        let needs = &self.graph.groups()[group].needs;
        needs.iter().any(|need| need.lenient)
    }

    /// Whether nothing runs and nothing will.
    pub fn is_over(&self) -> bool {
        self.running == 0 && self.ready.is_empty()
    }

    fn finish(&mut self, step: StepIndex) {
        let group = self.graph.group_of(step);
        self.unfinished[group] -= 1;
        if self.unfinished[group] == 0 {
            self.state[group] = State::Ended;
            self.free = self.free.and(self.costs[group]);
            self.running -= 1;
            self.instances.give_back(group);
        }
    }

    /// What follows for others from steps that are settled, and whether each has succeeded.
    fn settled(&mut self, mut news: VecDeque<(StepIndex, bool)>) -> Vec<Skip> {
        let mut skips = Vec::new();
        while let Some((need, succeeded)) = news.pop_front() {
            if std::mem::replace(&mut self.told[need], true) {
                continue;
            }
            for group in self.graph.dependants(need) {
                if self.state[*group] != State::Waiting {
                    continue;
                }
                let needs = &self.graph.groups()[*group].needs;
                let found = needs.binary_search_by_key(&need, |need| need.step);
                if succeeded || found.is_ok_and(|at| needs[at].lenient) {
                    self.unmet[*group] -= 1;
                    if self.unmet[*group] == 0 {
                        self.ready.insert((Reverse(self.ranks[*group]), *group));
                    }
                    continue;
                }
                self.give_up(*group, need, &mut skips, &mut news);
            }
        }
        skips
    }

    /// Skips a group for the sake of something that it needs and will not get.
    fn give_up(
        &mut self,
        group: GroupIndex,
        need: StepIndex,
        skips: &mut Vec<Skip>,
        news: &mut VecDeque<(StepIndex, bool)>,
    ) {
        self.state[group] = State::Skipped;
        let Group { members, needs, .. } = &self.graph.groups()[group];
        let found = needs.binary_search_by_key(&need, |need| need.step);
        for step in members {
            let held_by = found.map_or(*step, |at| needs[at].by);
            skips.push(Skip {
                step: *step,
                held_by,
                need,
            });
            news.push_back((*step, false));
        }
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

    /// The schedule of a plan on a machine with this many processors and one graphics processor.
    fn schedule(plan: &Plan, cpus: u64) -> Schedule<'_> {
        limited(plan, cpus, Instances::default())
    }

    /// The same with limits of plugins.
    fn limited(plan: &Plan, cpus: u64, instances: Instances) -> Schedule<'_> {
        let costs = |step: StepIndex| Amount::of(&plan.steps[step].resources);
        let room = Amount {
            cpus,
            memory: 1 << 30,
            gpus: 1,
        };
        Schedule::new(
            plan.graph(),
            plan.graph().ranks(|_| 1),
            costs,
            room,
            instances,
        )
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
        let mut schedule = schedule(&plan, 8);
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
        let mut schedule = schedule(&plan, 2);
        assert_eq!(started(&mut schedule), [0, 1, 2]);
    }

    #[test]
    fn no_more_steps_run_at_once_than_there_are_jobs() {
        let plan = plan("a b c d");
        let mut schedule = schedule(&plan, 2);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn groups_wait_for_instances_of_their_plugin_and_others_pass_them() {
        let plan = plan("a b<a c d e");
        // The first group takes two of three, the next two take two and one; the last takes none.
        let instances = Instances {
            taken: vec![vec![(0, 2)], vec![(0, 2)], vec![(0, 1)], Vec::new()],
            free: vec![3],
        };
        let mut schedule = limited(&plan, 8, instances);
        assert_eq!(started(&mut schedule), [0, 1, 3, 4]);
        schedule.succeeded(3);
        assert!(started(&mut schedule).is_empty());
        // A group gives back what it took when its last step has ended.
        schedule.succeeded(0);
        assert!(started(&mut schedule).is_empty());
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
        schedule.succeeded(4);
        assert!(!schedule.is_over());
        schedule.succeeded(2);
        assert!(schedule.is_over());
    }

    #[test]
    fn what_a_group_leaves_that_lacks_another_plugin_is_there_for_those_behind_it() {
        let plan = plan("a b c d e");
        // The third and the fourth take one of each plugin.
        let both = || vec![(0, 1), (1, 1)];
        let instances = Instances {
            taken: vec![vec![(0, 1)], vec![(1, 1)], both(), both(), vec![(0, 1)]],
            free: vec![1, 1],
        };
        let mut schedule = limited(&plan, 8, instances);
        assert_eq!(started(&mut schedule), [0, 1]);
        schedule.succeeded(0);
        assert_eq!(started(&mut schedule), [4]);
        schedule.succeeded(4);
        assert!(started(&mut schedule).is_empty());
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
        schedule.succeeded(2);
        assert_eq!(started(&mut schedule), [3]);
        schedule.succeeded(3);
        assert!(schedule.is_over());
    }

    #[test]
    fn stopping_gives_up_what_waits_for_instances_too_and_keeps_what_cleans_up() {
        let plan = with(serde_json::json!([
            { "key": "a" }, { "key": "b" }, { "key": "c" },
            { "key": "d", "needs": ["a"], "when": { "needs": "ended" } },
        ]));
        let instances = Instances {
            taken: vec![vec![(0, 1)]; 4],
            free: vec![1],
        };
        let mut schedule = limited(&plan, 8, instances);
        assert_eq!(started(&mut schedule), [0]);
        assert!(schedule.failed(0).is_empty());
        // Two wait now: one that goes when the run stops, and the one that cleans up.
        assert_eq!(started(&mut schedule), [1]);
        assert_eq!(schedule.stop(false), [2]);
        assert!(started(&mut schedule).is_empty());
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [3]);
        schedule.succeeded(3);
        assert!(schedule.is_over());
    }

    #[test]
    fn a_failure_skips_all_that_depends_on_it_and_nothing_else() {
        let plan = plan("a b:a c:b d<c e");
        let mut schedule = schedule(&plan, 1);
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
        let mut schedule = schedule(&plan, 2);
        started(&mut schedule);
        assert_eq!(schedule.failed(0).len(), 1);
        assert_eq!(schedule.failed(1).len(), 0);
        assert!(schedule.is_over());
    }

    #[test]
    fn stopping_gives_up_all_that_has_not_started() {
        let plan = plan("a b:a c");
        let mut schedule = schedule(&plan, 1);
        assert_eq!(started(&mut schedule), [0]);
        assert_eq!(schedule.stop(true), [1, 2]);
        assert!(!schedule.is_over());
        schedule.succeeded(0);
        assert!(schedule.is_over());
        assert_eq!(schedule.start(), None);
    }

    /// A plan of these steps, whose keys are letters.
    fn with(steps: serde_json::Value) -> Plan {
        let mut steps = steps;
        for step in steps.as_array_mut().unwrap() {
            step["uses"] = "exec".into();
        }
        let plan = serde_json::json!({ "pipeline": { "name": "p" }, "step": steps });
        Plan::parse(&plan.to_string(), "-").unwrap()
    }

    #[test]
    fn the_step_from_which_the_way_is_longest_goes_first() {
        let plan = plan("a b c:b d:c");
        let mut schedule = schedule(&plan, 1);
        assert_eq!(started(&mut schedule), [1]);
        schedule.succeeded(1);
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn two_steps_that_want_the_one_graphics_processor_do_not_meet() {
        let gpu = serde_json::json!({ "gpu": 1 });
        let plan = with(serde_json::json!([
            { "key": "a", "resources": gpu }, { "key": "b", "resources": gpu }, { "key": "c" },
        ]));
        let mut schedule = schedule(&plan, 8);
        assert_eq!(started(&mut schedule), [0, 2]);
        schedule.succeeded(0);
        assert_eq!(started(&mut schedule), [1]);
    }

    #[test]
    fn a_step_waits_for_the_processors_and_the_memory_that_it_asks_for() {
        let plan = with(serde_json::json!([
            { "key": "a", "resources": { "cpus": 2, "memory": "800MiB" } },
            { "key": "b", "resources": { "memory": "800MiB" } },
            { "key": "c", "resources": { "cpus": 2 } },
            { "key": "d" },
        ]));
        let mut schedule = schedule(&plan, 3);
        assert_eq!(started(&mut schedule), [0, 3]);
        schedule.succeeded(0);
        assert_eq!(started(&mut schedule), [1]);
        schedule.succeeded(3);
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn what_waits_for_any_end_runs_after_a_failure_and_a_stop() {
        let plan = with(serde_json::json!([
            { "key": "a" }, { "key": "b", "needs": ["a"] },
            { "key": "c", "needs": ["a", "b"], "when": { "needs": "ended" } },
        ]));
        let mut schedule = schedule(&plan, 1);
        assert_eq!(started(&mut schedule), [0]);
        assert_eq!(schedule.failed(0).len(), 1);
        assert!(schedule.stop(false).is_empty());
        assert_eq!(started(&mut schedule), [2]);
    }

    #[test]
    fn while_a_stop_is_near_only_what_it_leaves_is_handed_out() {
        let plan = with(serde_json::json!([
            { "key": "a" }, { "key": "b" },
            { "key": "c", "needs": ["a"], "when": { "needs": "ended" } },
        ]));
        let mut schedule = schedule(&plan, 1);
        assert_eq!(started(&mut schedule), [0]);
        schedule.hold();
        schedule.succeeded(0);
        assert_eq!(started(&mut schedule), [2]);
        schedule.succeeded(2);
        assert!(started(&mut schedule).is_empty());
        assert_eq!(schedule.stop(false), [1]);
        assert!(schedule.is_over());
    }

    #[test]
    fn what_an_earlier_run_has_done_is_not_handed_out_again() {
        let plan = plan("a b:a c:b");
        let mut schedule = schedule(&plan, 1);
        schedule.done_before(&[0, 1]);
        assert_eq!(started(&mut schedule), [2]);
        schedule.succeeded(2);
        assert!(schedule.is_over());
    }
}
