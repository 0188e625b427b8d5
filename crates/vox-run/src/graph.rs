//! Which steps wait for which.
//!
//! Two things order steps. `needs` lets a step start only after others have succeeded. A stream
//! makes its writer and its reader run at the same time: buffers are bounded, so a writer whose
//! reader has not started would wait for it for ever. Steps that streams join are therefore one
//! *group*, and a group starts as a whole once all that any member needs has succeeded.
//!
//! What must stay true of a [`Graph`]: following needs and streams never leads back to where it
//! began, neither from step to step nor from group to group. Building one takes time and memory in
//! proportion to steps and edges and does not recurse, so that a plan may be as long as it likes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, EdgeReference, NodeIndex};
use petgraph::unionfind::UnionFind;
use petgraph::visit::EdgeRef;

use crate::plan::{Fate, Step};

/// Position of a step in its plan.
pub type StepIndex = usize;

/// Position of a group in its graph.
pub type GroupIndex = usize;

/// Most circles that are shown of one plan.
const MAX_CIRCLES: usize = 20;

type Edge<'a> = EdgeReference<'a, Wait>;

/// The order of a plan's steps.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    groups: Vec<Group>,
    group_of: Vec<GroupIndex>,
    dependants: Vec<Vec<GroupIndex>>,
    streams: Vec<Stream>,
    artifacts: Vec<Artifact>,
}

/// Steps that start together, because streams join them; most groups are one step.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The steps, in the order of the plan.
    pub members: Vec<StepIndex>,
    /// The steps of other groups that must have succeeded first, each once, in the order of the
    /// plan.
    pub needs: Vec<Need>,
    /// The streams that join its members, as positions in [`Graph::streams`].
    pub streams: Vec<usize>,
}

/// What a group needs, and for whose sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The step that must have succeeded.
    pub step: StepIndex,
    /// The first member that needs it.
    pub by: StepIndex,
    /// Whether it is enough that it has ended, however.
    pub lenient: bool,
}

/// An edge along which chunks flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The step that pushes.
    pub writer: StepIndex,
    /// Its port.
    pub output: String,
    /// The step that pulls.
    pub reader: StepIndex,
    /// Its port.
    pub input: String,
}

/// A file or directory that one step makes and another reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The step that makes it.
    pub maker: StepIndex,
    /// The name of its output.
    pub output: String,
    /// The step that reads it.
    pub reader: StepIndex,
    /// The name of its input.
    pub input: String,
}

/// Why one step waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It needs it.
    Need,
    /// It reads what it makes.
    Make,
    /// It reads its stream.
    Read,
    /// It writes a stream for it.
    Write,
}

impl Wait {
    /// Whether it starts only after the other has ended.
    fn is_for_the_end(self) -> bool {
        matches!(self, Self::Need | Self::Make)
    }
}

/// Steps that wait for one another in a circle, each for the next and the last for the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndlessWait {
    pub steps: Vec<(String, Wait)>,
    /// Positions of the same steps.
    pub indices: Vec<StepIndex>,
}

impl Graph {
    /// The order of `steps`, whose keys are unique and whose needs and sources are among them.
    /// A name that is not is passed over.
    pub(crate) fn new(steps: &[Step]) -> Result<Self, Vec<EndlessWait>> {
        let position: HashMap<&str, StepIndex> = steps
            .iter()
            .enumerate()
            .map(|(index, step)| (step.key.as_str(), index))
            .collect();
        let mut waits = DiGraph::<(), Wait>::with_capacity(steps.len(), steps.len());
        let mut streams = Vec::new();
        let mut artifacts = Vec::new();
        for _ in steps {
            waits.add_node(());
        }
        for (index, step) in steps.iter().enumerate() {
            let waiting = NodeIndex::new(index);
            for need in step
                .needs
                .iter()
                .filter_map(|key| position.get(key.as_str()))
            {
                waits.add_edge(waiting, NodeIndex::new(*need), Wait::Need);
            }
            for (name, input) in step.inputs() {
                let Some(from) = &input.from else { continue };
                let Some(&writer) = position.get(from.step.as_str()) else {
                    continue;
                };
                if steps[writer].outputs.contains_key(&from.port) {
                    waits.add_edge(waiting, NodeIndex::new(writer), Wait::Make);
                    artifacts.push(Artifact {
                        maker: writer,
                        output: from.port.clone(),
                        reader: index,
                        input: name.clone(),
                    });
                    continue;
                }
                waits.add_edge(waiting, NodeIndex::new(writer), Wait::Read);
                streams.push(Stream {
                    writer,
                    output: from.port.clone(),
                    reader: index,
                    input: name.clone(),
                });
            }
        }
        refuse_circles(&waits, steps)?;
        for Stream { writer, reader, .. } in &streams {
            waits.add_edge(
                NodeIndex::new(*writer),
                NodeIndex::new(*reader),
                Wait::Write,
            );
        }
        let (groups, group_of) = gather(&waits, &streams, steps);
        let graph = Self {
            dependants: dependants(&groups, steps.len()),
            groups,
            group_of,
            streams,
            artifacts,
        };
        graph.refuse_groups_that_wait_for_themselves(&waits, steps)?;
        Ok(graph)
    }

    /// Steps that start together, in the order of their first members.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a step.
    ///
    /// # Panics
    ///
    /// When `step` is not of this plan.
    pub fn group_of(&self, step: StepIndex) -> GroupIndex {
        self.group_of[step]
    }

    /// The groups that need this step, each once.
    ///
    /// # Panics
    ///
    /// When `step` is not of this plan.
    pub fn dependants(&self, step: StepIndex) -> &[GroupIndex] {
        &self.dependants[step]
    }

    /// Every stream of the plan, by its reader in the order of the plan.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Every file and directory that one step makes for another, by its reader in the order of the
    /// plan.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// What other steps make for this one.
    pub fn artifacts_of(&self, reader: StepIndex) -> impl Iterator<Item = &Artifact> {
        // They stand in the order of their readers.
        let first = self.artifacts.partition_point(|made| made.reader < reader);
        let of_reader = self.artifacts[first..].iter();
        of_reader.take_while(move |made| made.reader == reader)
    }

    /// For each group, how long the way from its start to the end of the run is at least, where
    /// each step takes what `weight` says: the longest chain of groups that wait for each other.
    pub fn ranks(&self, weight: impl Fn(StepIndex) -> u64) -> Vec<u64> {
        let own: Vec<u64> = self
            .groups
            .iter()
            .map(|group| {
                group
                    .members
                    .iter()
                    .map(|step| weight(*step))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut waiting = vec![0_usize; self.groups.len()];
        for group in &self.groups {
            for need in &group.needs {
                waiting[self.group_of[need.step]] += 1;
            }
        }
        let mut ranks = own.clone();
        let mut last: Vec<GroupIndex> = (0..waiting.len()).filter(|g| waiting[*g] == 0).collect();
        while let Some(group) = last.pop() {
            for need in &self.groups[group].needs {
                let before = self.group_of[need.step];
                ranks[before] = ranks[before].max(own[before].saturating_add(ranks[group]));
                waiting[before] -= 1;
                if waiting[before] == 0 {
                    last.push(before);
                }
            }
        }
        ranks
    }

    /// A group that needs one of its own members, or needs a group that needs it, can never
    /// start.
    fn refuse_groups_that_wait_for_themselves(
        &self,
        waits: &DiGraph<(), Wait>,
        steps: &[Step],
    ) -> Result<(), Vec<EndlessWait>> {
        let mut order = DiGraph::<(), ()>::with_capacity(self.groups.len(), self.groups.len());
        for _ in &self.groups {
            order.add_node(());
        }
        let needs = || {
            waits
                .edge_references()
                .filter(|edge| edge.weight().is_for_the_end())
        };
        let groups_of = |edge: &Edge<'_>| {
            [edge.source(), edge.target()].map(|step| self.group_of[step.index()])
        };
        let mut within = Vec::new();
        for edge in needs() {
            let [waiting, needed] = groups_of(&edge);
            if waiting == needed {
                within.push(edge);
            } else {
                order.add_edge(NodeIndex::new(waiting), NodeIndex::new(needed), ());
            }
        }
        if within.is_empty() && toposort(&order, None).is_ok() {
            return Ok(());
        }
        // One need of each knot of groups is enough to show its circle.
        let mut knot_of = vec![0; self.groups.len()];
        for (knot, groups) in kosaraju_scc(&order).into_iter().enumerate() {
            groups
                .into_iter()
                .for_each(|group| knot_of[group.index()] = knot);
        }
        let mut shown = HashSet::new();
        let across = needs().filter(|edge| {
            let [waiting, needed] = groups_of(edge);
            waiting != needed
                && knot_of[waiting] == knot_of[needed]
                && shown.insert(knot_of[waiting])
        });
        let closed = within
            .into_iter()
            .chain(across)
            .take(MAX_CIRCLES)
            .filter_map(|edge| {
                let back = way(waits, edge.target(), edge.source(), |_| true)?;
                Some(EndlessWait::new(
                    [(edge.source(), *edge.weight())].into_iter().chain(back),
                    steps,
                ))
            });
        Err(closed.collect())
    }
}

/// Shows the circle: `a → b` for a that waits for b to end, `a ⇄ b` for two that start together.
impl fmt::Display for EndlessWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, reason) in &self.steps {
            let arrow = if self.is_of_groups() && !reason.is_for_the_end() {
                '⇄'
            } else {
                '→'
            };
            write!(f, "{key} {arrow} ")?;
        }
        f.write_str(self.steps.first().map_or("", |(key, _)| key))
    }
}

impl EndlessWait {
    /// Whether it arises only because the steps that a stream joins start together.
    pub fn is_of_groups(&self) -> bool {
        self.steps.iter().any(|(_, reason)| *reason == Wait::Write)
    }

    fn new(circle: impl IntoIterator<Item = (NodeIndex, Wait)>, steps: &[Step]) -> Self {
        let mut wait = Self {
            steps: Vec::new(),
            indices: Vec::new(),
        };
        for (step, reason) in circle {
            wait.indices.push(step.index());
            wait.steps.push((steps[step.index()].key.clone(), reason));
        }
        wait
    }
}

/// One circle for each set of steps that wait for one another through needs and inputs.
fn refuse_circles(waits: &DiGraph<(), Wait>, steps: &[Step]) -> Result<(), Vec<EndlessWait>> {
    if toposort(waits, None).is_ok() {
        return Ok(());
    }
    let mut circles: Vec<EndlessWait> = Vec::new();
    for knot in kosaraju_scc(waits) {
        let Some(first) = knot.iter().min().copied() else {
            continue;
        };
        let members: HashSet<NodeIndex> = knot.into_iter().collect();
        let circle = way(waits, first, first, |step| members.contains(&step));
        circles.extend(circle.map(|circle| EndlessWait::new(circle, steps)));
    }
    circles.sort_by_key(|circle| circle.indices.first().copied());
    circles.truncate(MAX_CIRCLES);
    Err(circles)
}

/// The shortest way along at least one edge from `from` to `to`: every step on it with why it
/// waits for the next, without `to` at its end.
fn way(
    waits: &DiGraph<(), Wait>,
    from: NodeIndex,
    to: NodeIndex,
    allowed: impl Fn(NodeIndex) -> bool,
) -> Option<Vec<(NodeIndex, Wait)>> {
    let mut came_from: HashMap<NodeIndex, (NodeIndex, Wait)> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(step) = queue.pop_front() {
        for edge in waits.edges(step).filter(|edge| allowed(edge.target())) {
            let next = edge.target();
            if next == to {
                let mut way = vec![(step, *edge.weight())];
                let mut at = step;
                while let Some((before, reason)) = came_from.get(&at).filter(|_| at != from) {
                    way.push((*before, *reason));
                    at = *before;
                }
                way.reverse();
                return Some(way);
            }
            if next != from && !came_from.contains_key(&next) {
                came_from.insert(next, (step, *edge.weight()));
                queue.push_back(next);
            }
        }
    }
    None
}

/// Groups the steps that streams join.
fn gather(
    waits: &DiGraph<(), Wait>,
    streams: &[Stream],
    steps: &[Step],
) -> (Vec<Group>, Vec<GroupIndex>) {
    let mut joined = UnionFind::<StepIndex>::new(waits.node_count());
    for stream in streams {
        joined.union(stream.writer, stream.reader);
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = Vec::with_capacity(waits.node_count());
    let mut number: HashMap<StepIndex, GroupIndex> = HashMap::new();
    for (step, planned) in steps.iter().enumerate() {
        let group = *number.entry(joined.find(step)).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        });
        groups[group].members.push(step);
        let asks = planned.required() != Fate::Succeeded;
        let needs = needed_by(waits, step).map(|(needed, wait)| Need {
            step: needed,
            by: step,
            lenient: asks && wait == Wait::Need,
        });
        groups[group].needs.extend(needs);
        group_of.push(group);
    }
    for (index, stream) in streams.iter().enumerate() {
        groups[group_of[stream.reader]].streams.push(index);
    }
    for group in &mut groups {
        group.needs.sort_unstable();
        group.needs.dedup_by(|other, need| {
            let same = other.step == need.step;
            need.lenient &= !same || other.lenient;
            same
        });
    }
    (groups, group_of)
}

fn needed_by(
    waits: &DiGraph<(), Wait>,
    step: StepIndex,
) -> impl Iterator<Item = (StepIndex, Wait)> {
    waits
        .edges(NodeIndex::new(step))
        .filter(|edge| edge.weight().is_for_the_end())
        .map(|edge| (edge.target().index(), *edge.weight()))
}

fn dependants(groups: &[Group], steps: usize) -> Vec<Vec<GroupIndex>> {
    let mut dependants = vec![Vec::new(); steps];
    for (index, group) in groups.iter().enumerate() {
        for needed in &group.needs {
            dependants[needed.step].push(index);
        }
    }
    dependants
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step for each line: `key: need need < source source`.
    fn steps(text: &str) -> Vec<Step> {
        text.lines()
            .map(|line| {
                let (key, waits) = line.trim().split_once(':').unwrap();
                let (needs, sources) = waits.split_once('<').unwrap_or((waits, ""));
                let inputs: serde_json::Map<_, _> = sources
                    .split_whitespace()
                    .map(|step| {
                        (
                            format!("in-{step}"),
                            serde_json::json!({ "from": format!("{step}.out") }),
                        )
                    })
                    .collect();
                let needs: Vec<&str> = needs.split_whitespace().collect();
                serde_json::from_value(serde_json::json!({
                    "key": key, "uses": "exec", "needs": needs, "inputs": inputs,
                }))
                .unwrap()
            })
            .collect()
    }

    fn circles(text: &str) -> Vec<String> {
        let waits = Graph::new(&steps(text)).unwrap_err();
        waits.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn steps_that_streams_join_are_one_group_and_share_their_needs() {
        let graph = Graph::new(&steps("a:\nb: <a\nc: d <b\nd:\ne: c d")).unwrap();
        let groups: Vec<_> = graph
            .groups()
            .iter()
            .map(|g| {
                (
                    g.members.clone(),
                    g.needs.iter().map(|need| (need.step, need.by)).collect(),
                )
            })
            .collect();
        assert_eq!(
            groups,
            [
                (vec![0, 1, 2], vec![(3, 2)]),
                (vec![3], vec![]),
                (vec![4], vec![(2, 4), (3, 4)])
            ]
        );
        assert_eq!(graph.group_of(1), 0);
        assert_eq!(graph.dependants(3), [0, 2]);
    }

    #[test]
    fn a_circle_of_needs_is_shown_from_its_first_step() {
        assert_eq!(circles("x: b\na: c\nb: a\nc: b"), ["a → c → b → a"]);
    }

    #[test]
    fn a_step_that_needs_itself_is_a_circle() {
        assert_eq!(circles("a: a"), ["a → a"]);
    }

    #[test]
    fn streams_close_a_circle_too() {
        assert_eq!(circles("a: <b\nb: a"), ["a → b → a"]);
    }

    #[test]
    fn every_circle_is_shown_once() {
        assert_eq!(
            circles("a: b\nb: a\nc: d\nd: c"),
            ["a → b → a", "c → d → c"]
        );
    }

    #[test]
    fn a_reader_cannot_also_need_its_writer() {
        assert_eq!(circles("a:\nb: a <a"), ["b → a ⇄ b"]);
    }

    #[test]
    fn a_group_cannot_wait_for_what_needs_one_of_its_members() {
        assert_eq!(circles("a:\nb: c <a\nc: a"), ["b → c → a ⇄ b"]);
    }

    #[test]
    fn a_long_chain_of_steps_has_an_order() {
        let mut text = "s0:".to_owned();
        for step in 1..100_000 {
            text.push_str(&format!("\ns{step}: s{}", step - 1));
        }
        assert_eq!(Graph::new(&steps(&text)).unwrap().groups().len(), 100_000);
    }
}
