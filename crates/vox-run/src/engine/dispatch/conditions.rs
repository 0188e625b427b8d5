//! What may start, and what is skipped instead.
//!
//! The schedule says which group is next; this asks the conditions of its steps. What must stay true:
//! a condition is asked about steps that are settled, as the schedule hands a group out only then; a
//! group starts or is skipped as a whole; and a step that is skipped says which condition did not
//! hold, or which step it waited for and what became of that.

use super::{Dispatcher, Phase};
use crate::engine::execute::Execution;
use crate::engine::message::Ended;
use crate::graph::{GroupIndex, StepIndex};
use crate::plan::{Fate, PortRef};
use crate::report::StepOutcome;
use crate::schedule::Skip;

impl Dispatcher<'_> {
    /// The next group to start. One whose condition does not hold is skipped instead.
    pub(super) fn start(&mut self) -> Option<GroupIndex> {
        while self.phase == Phase::Running {
            let group = self.schedule.start()?;
            let members = &self.execution.engine.plan.graph().groups()[group].members;
            let unmet = members
                .iter()
                .find_map(|step| Some((*step, self.unmet_condition(*step)?)));
            let Some((step, why)) = unmet else {
                return Some(group);
            };
            let key = self.key(step);
            let ends = members.iter().map(|member| {
                let reason = if *member == step {
                    why.clone()
                } else {
                    format!("it starts together with `{key}`, and {why}")
                };
                let outcome = StepOutcome::Skipped {
                    reason,
                    by_condition: true,
                };
                Ended::unstarted(*member, outcome)
            });
            self.ended(ends.collect());
        }
        None
    }

    /// Why the condition of a step does not hold, if it does not.
    fn unmet_condition(&self, step: StepIndex) -> Option<String> {
        let Execution {
            engine, options, ..
        } = self.execution;
        let step = &engine.plan.steps[step];
        let when = step.when.as_ref()?;
        let settled = |key: &str| {
            let index = engine.plan.steps.iter().position(|step| step.key == key)?;
            self.settled[index].as_ref()
        };
        let failed = |key: &String| {
            settled(key).is_some_and(|end| matches!(end.outcome, StepOutcome::Failed { .. }))
        };
        if when.needs == Fate::Failed && !step.needs.iter().any(failed) {
            return Some("nothing that it needs has failed".to_owned());
        }
        for (name, wanted) in &when.environment {
            let value = step
                .environment
                .get(name)
                .or_else(|| options.variables.get(name))
                .or_else(|| options.environment.get(name));
            if value != Some(wanted) {
                return Some(format!("the variable `{name}` is not `{wanted}`"));
            }
        }
        for (PortRef { step: key, port }, wanted) in &when.results {
            let attributes = match settled(key).map(|end| &end.outcome) {
                Some(StepOutcome::Succeeded { attributes, .. }) => attributes.as_slice(),
                _ => &[],
            };
            let found = attributes.iter().find(|attribute| attribute.key == *port);
            if found.map(|attribute| &attribute.value) != Some(wanted) {
                return Some(format!("`{port}` of `{key}` is not `{wanted}`"));
            }
        }
        None
    }

    /// What becomes of a step that is skipped.
    pub(super) fn skipped(&self, skip: &Skip) -> StepOutcome {
        let Skip {
            step,
            held_by,
            need,
        } = *skip;
        let settled = self.settled[need].as_ref().map(|settled| &settled.outcome);
        let by_condition = matches!(
            settled,
            Some(StepOutcome::Skipped {
                by_condition: true,
                ..
            })
        );
        let became = match settled.map(StepOutcome::status) {
            Some("failed") => "failed",
            Some("cancelled") => "was cancelled",
            _ => "was skipped",
        };
        let need = self.key(need);
        let reason = if held_by == step {
            format!("it needs `{need}`, which {became}")
        } else {
            let held_by = self.key(held_by);
            format!("it starts together with `{held_by}`, which needs `{need}`, which {became}")
        };
        StepOutcome::Skipped {
            reason,
            by_condition,
        }
    }
}
