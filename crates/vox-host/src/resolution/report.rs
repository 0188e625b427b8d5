//! Puts the derivation of a failure into sentences.
//!
//! `pubgrub` answers with a tree in which each node follows from its two causes. What is reported
//! keeps that structure and leaves out what a person does not need: that no versions exist between
//! those that do, and that what was asked for was asked for. The style is that of uv's resolver
//! report: facts first, what follows from them last, and a hint that names a command.

use pubgrub::{
    DefaultStringReporter, DerivationTree, Derived, External, Map, ReportFormatter, Reporter, Term,
};
use vox_contract::PluginId;

use super::ranges::{Choice, Choices, all_but, any_version, describe};
use super::solver::{Package, Solver};

type Tree = DerivationTree<Package, Choices, String>;
type Fact = External<Package, Choices, String>;
type Terms = Map<Package, Term<Choices>>;

/// The explanation of a failure, and what to do about it.
pub(super) fn explain(solver: &Solver<'_>, tree: Tree) -> (String, String) {
    let tree = without_gaps(solver, tree);
    let sentences = Sentences { solver };
    let mut explanation = DefaultStringReporter::report_with_formatter(&tree, &sentences);
    // A tree of one fact is reported as that fact, which begins like a clause.
    if !explanation.ends_with('.') {
        explanation.push('.');
    }
    let explanation: Vec<String> = explanation
        .lines()
        .map(|line| {
            if line.is_empty() {
                String::new()
            } else {
                format!("  {line}")
            }
        })
        .collect();
    (explanation.join("\n"), hint(solver, &tree))
}

/// Leaves out facts that only say that no versions exist beside those that were considered.
fn without_gaps(solver: &Solver<'_>, tree: Tree) -> Tree {
    let DerivationTree::Derived(Derived {
        terms,
        shared_id,
        cause1,
        cause2,
    }) = tree
    else {
        return tree;
    };
    let cause1 = without_gaps(solver, (*cause1).clone());
    let cause2 = without_gaps(solver, (*cause2).clone());
    let (gap, rest) = match (&cause1, &cause2) {
        (DerivationTree::External(External::NoVersions(package, _)), rest)
        | (rest, DerivationTree::External(External::NoVersions(package, _))) => (package, rest),
        _ => return derived(terms, shared_id, cause1, cause2),
    };
    match rest {
        // What follows from its causes and the gap, said as following from its causes.
        DerivationTree::Derived(rest) => DerivationTree::Derived(Derived {
            terms,
            shared_id,
            cause1: rest.cause1.clone(),
            cause2: rest.cause2.clone(),
        }),
        // The gap is the fault where nothing that exists is in what is needed; a conflict needs
        // nothing.
        DerivationTree::External(External::FromDependencyOf(from, _, needed, range))
            if needed == gap
                && !exists(solver, needed, range)
                && (*from == Package::Settings || !range.contains(&Choice::Absent)) =>
        {
            derived(terms, shared_id, cause1, cause2)
        }
        DerivationTree::External(External::NoVersions(..)) => {
            derived(terms, shared_id, cause1, cause2)
        }
        DerivationTree::External(_) => rest.clone(),
    }
}

fn derived(terms: Terms, shared_id: Option<usize>, cause1: Tree, cause2: Tree) -> Tree {
    let (cause1, cause2) = (cause1.into(), cause2.into());
    DerivationTree::Derived(Derived {
        terms,
        shared_id,
        cause1,
        cause2,
    })
}

fn exists(solver: &Solver<'_>, package: &Package, range: &Choices) -> bool {
    match package {
        Package::Request | Package::Settings => true,
        Package::Plugin(id) => solver
            .known(id)
            .any(|version| range.contains(&Choice::Version(version.clone()))),
    }
}

/// What to do: the first remedy that any fact of the tree suggests, the surest first.
fn hint(solver: &Solver<'_>, tree: &Tree) -> String {
    let mut remedies = Vec::new();
    collect_remedies(solver, tree, &mut remedies);
    remedies.sort();
    remedies.into_iter().next().map_or_else(
        || "`vox plugin list` shows what is installed".to_owned(),
        |(_, remedy)| remedy,
    )
}

fn collect_remedies(solver: &Solver<'_>, tree: &Tree, remedies: &mut Vec<(u8, String)>) {
    match tree {
        DerivationTree::Derived(derived) => {
            collect_remedies(solver, &derived.cause1, remedies);
            collect_remedies(solver, &derived.cause2, remedies);
        }
        DerivationTree::External(External::NoVersions(Package::Plugin(id), _)) => {
            remedies.push(if solver.knows(id) {
                (
                    3,
                    format!("`vox plugin install {id}` installs a version that fits"),
                )
            } else {
                (0, format!("`vox plugin install {id}` installs it"))
            });
        }
        DerivationTree::External(External::Custom(..)) => {
            let remedy = "`vox plugin doctor` says what to do about plugins that cannot be used";
            remedies.push((2, remedy.to_owned()));
        }
        DerivationTree::External(External::FromDependencyOf(
            Package::Settings,
            _,
            Package::Plugin(id),
            _,
        )) if solver.knows(id) => {
            let remedy = format!(
                "change `version` in `[plugin.{id}]` of Vox.toml, or install a version that it \
                 allows"
            );
            remedies.push((1, remedy));
        }
        DerivationTree::External(External::FromDependencyOf(
            Package::Plugin(from),
            _,
            Package::Plugin(id),
            range,
        )) => {
            remedies.push(if range.contains(&Choice::Absent) {
                let remedy = format!(
                    "`vox plugin remove {from}` or `vox plugin remove {id}` leaves one of the two"
                );
                (4, remedy)
            } else {
                (
                    5,
                    format!("`vox plugin install {id}` installs another version"),
                )
            });
        }
        DerivationTree::External(_) => {}
    }
}

/// Writes facts and what follows from them.
struct Sentences<'a> {
    solver: &'a Solver<'a>,
}

impl Sentences<'_> {
    /// A plugin in those versions that a statement is about.
    fn subject(&self, package: &Package, range: &Choices) -> String {
        let Package::Plugin(id) = package else {
            return package.to_string();
        };
        let (there, others): (Vec<_>, Vec<_>) = self
            .solver
            .known(id)
            .partition(|version| range.contains(&Choice::Version((*version).clone())));
        match there.as_slice() {
            [] => needed(id, range),
            [_, _, ..] if others.is_empty() => format!("every installed version of {id}"),
            [_] | [_, _] | [_, _, _] => {
                let versions: Vec<String> = there.iter().map(ToString::to_string).collect();
                format!("{id} {}", versions.join(" and "))
            }
            _ => needed(id, range),
        }
    }

    /// What a set of terms says. A set says that its terms cannot all be true.
    fn statement(&self, terms: &Terms) -> String {
        let (mut together, mut needs) = (Vec::new(), Vec::new());
        for (package, term) in terms {
            let Package::Plugin(id) = package else {
                continue;
            };
            let (positive, range) = match term {
                Term::Positive(range) => (true, range),
                Term::Negative(range) => (false, range),
            };
            // A set with absence in it is better said by what it leaves out.
            let absent = range.contains(&Choice::Absent);
            let range = if absent {
                all_but(range)
            } else {
                range.clone()
            };
            if positive != absent {
                together.push(self.subject(package, &range));
            } else {
                needs.push(needed(id, &range));
            }
        }
        together.sort();
        needs.sort();
        match (together.as_slice(), needs.as_slice()) {
            ([], []) => "what is asked for cannot be had".to_owned(),
            ([one], []) => format!("{one} cannot be used"),
            (_, []) => format!("{} cannot be used together", together.join(" and ")),
            ([], _) => format!("{} must be used", needs.join(" or ")),
            ([one], _) => format!("{one} needs {}", needs.join(" or ")),
            (_, _) => format!(
                "{} together need {}",
                together.join(" and "),
                needs.join(" or ")
            ),
        }
    }

    fn line(&self, facts: &[String], terms: &Terms) -> String {
        format!(
            "Because {}, {}.",
            facts.join(" and "),
            self.statement(terms)
        )
    }

    fn further(&self, facts: &[String], terms: &Terms) -> String {
        format!(
            "And because {}, {}.",
            facts.join(" and "),
            self.statement(terms)
        )
    }

    fn earlier(&self, reference: usize, derived: &Derived<Package, Choices, String>) -> String {
        format!("{} ({reference})", self.statement(&derived.terms))
    }
}

impl ReportFormatter<Package, Choices, String> for Sentences<'_> {
    type Output = String;

    fn format_external(&self, fact: &Fact) -> String {
        match fact {
            External::NotRoot(..) => "something is asked for".to_owned(),
            External::NoVersions(Package::Plugin(id), range) => {
                let known: Vec<String> = self.solver.known(id).map(ToString::to_string).collect();
                if known.is_empty() {
                    return format!("no plugin {id} is installed");
                }
                let range = describe(range);
                format!(
                    "no installed version of {id} is {range} (there is {})",
                    known.join(", ")
                )
            }
            External::NoVersions(package, _) => format!("{package} allows nothing"),
            External::Custom(package, range, why) => {
                format!("{} cannot be used ({why})", self.subject(package, range))
            }
            External::FromDependencyOf(Package::Request, _, package, _) => {
                format!("{package} is asked for")
            }
            External::FromDependencyOf(Package::Settings, _, Package::Plugin(id), range) => {
                format!("Vox.toml allows only {}", needed(id, range))
            }
            External::FromDependencyOf(from, versions, Package::Plugin(id), range) => {
                let subject = self.subject(from, versions);
                if range.contains(&Choice::Absent) {
                    format!("{subject} conflicts with {}", needed(id, &all_but(range)))
                } else {
                    format!("{subject} needs {}", needed(id, range))
                }
            }
            External::FromDependencyOf(from, versions, package, _) => {
                format!("{} needs {package}", self.subject(from, versions))
            }
        }
    }

    fn format_terms(&self, terms: &Terms) -> String {
        self.statement(terms)
    }

    fn explain_both_external(&self, one: &Fact, other: &Fact, terms: &Terms) -> String {
        self.line(
            &[self.format_external(one), self.format_external(other)],
            terms,
        )
    }

    fn explain_both_ref(
        &self,
        id1: usize,
        derived1: &Derived<Package, Choices, String>,
        id2: usize,
        derived2: &Derived<Package, Choices, String>,
        terms: &Terms,
    ) -> String {
        self.line(
            &[self.earlier(id1, derived1), self.earlier(id2, derived2)],
            terms,
        )
    }

    fn explain_ref_and_external(
        &self,
        id: usize,
        derived: &Derived<Package, Choices, String>,
        fact: &Fact,
        terms: &Terms,
    ) -> String {
        self.line(
            &[self.earlier(id, derived), self.format_external(fact)],
            terms,
        )
    }

    fn and_explain_external(&self, fact: &Fact, terms: &Terms) -> String {
        self.further(&[self.format_external(fact)], terms)
    }

    fn and_explain_ref(
        &self,
        id: usize,
        derived: &Derived<Package, Choices, String>,
        terms: &Terms,
    ) -> String {
        self.further(&[self.earlier(id, derived)], terms)
    }

    fn and_explain_prior_and_external(&self, prior: &Fact, fact: &Fact, terms: &Terms) -> String {
        self.further(
            &[self.format_external(prior), self.format_external(fact)],
            terms,
        )
    }
}

/// A plugin in the versions that somebody needs: `b >=2.0.0, <3.0.0`.
fn needed(id: &PluginId, range: &Choices) -> String {
    let versions = range.intersection(&any_version());
    match describe(&versions).as_str() {
        "" => id.to_string(),
        versions => format!("{id} {versions}"),
    }
}
