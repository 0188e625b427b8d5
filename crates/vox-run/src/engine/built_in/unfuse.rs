//! `unfuse`: takes one modality out of fused vectors.
//!
//! It reads the vectors of a [`fuse`](super::fuse) step from the port `fused`, unbinds the role that is asked
//! for, and pushes what is left to `out`. That alone is only somewhat like what went in, since the others are
//! in it as noise: with three modalities about 0.5. Where the plan connects the port `memory` too, the result
//! is the most similar of the vectors that went in, which is the very one with overwhelming probability.

use schemars::JsonSchema;
use serde::Deserialize;
use vox_host::Ports as _;
use vox_host::contract::{Attribute, Chunk, step};
use vox_vsa::Hypervector;

use super::fuse::role;
use super::{Place, Trouble, counted, done};
use crate::plan::Step;

/// Vectors that are remembered at most; the oldest go first.
const MEMORY: usize = 65_536;

/// The arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnfuseArguments {
    /// The port of the fusion whose chunks are wanted.
    role: String,
}

/// The runner.
#[derive(Clone, Debug)]
pub(crate) struct Unfuse {
    role: String,
    /// Whether what went in can be looked up.
    remembers: bool,
}

impl Unfuse {
    /// The runner with these arguments.
    pub fn new(arguments: UnfuseArguments, step: &Step) -> Result<Self, String> {
        if step.input("fused").is_none() {
            return Err("the step needs the input `fused`, from a `fuse` step".to_owned());
        }
        Ok(Self {
            role: arguments.role,
            remembers: step.input("memory").is_some(),
        })
    }

    /// Takes the modality out of every vector.
    pub fn run(&self, place: &Place<'_>) -> Result<step::Outcome, Trouble> {
        let failed = |error: vox_vsa::Error| Trouble::error(error.to_string());
        let mut memory = Memory::default();
        let mut count = 0;
        while let Some(Chunk { mut head, data }) = place.ports.pull("fused", None)? {
            let fused = Hypervector::from_bytes(&data).map_err(failed)?;
            let role = role(&self.role, fused.dimensions()).map_err(failed)?;
            let mut found = fused.unbind(&role).map_err(failed)?;
            if self.remembers {
                let remembered = head.attributes.iter().find(|a| a.key == "remembered");
                let remembered = remembered.and_then(|a| a.value.parse().ok()).unwrap_or(0);
                memory.read(place, remembered)?;
                if let Some((item, name, similarity)) = memory.nearest(&found).map_err(failed)? {
                    found = item.clone();
                    let attribute = |key: &str, value: String| Attribute {
                        key: key.to_owned(),
                        value,
                    };
                    head.attributes.push(attribute("item", name.to_owned()));
                    head.attributes
                        .push(attribute("similarity", similarity.to_string()));
                }
            }
            head.attributes.push(Attribute {
                key: "role".to_owned(),
                value: self.role.clone(),
            });
            place.ports.push("out", head, &found.to_bytes(), None)?;
            count += 1;
        }
        Ok(done(format!(
            "{} of `{}` taken out",
            counted(count, "chunk"),
            self.role
        )))
    }
}

/// The vectors that went into a fusion.
#[derive(Default)]
struct Memory {
    items: std::collections::VecDeque<(String, Hypervector)>,
    /// How many came, those that have gone included.
    came: u64,
}

impl Memory {
    /// Reads on until `count` have come.
    fn read(&mut self, place: &Place<'_>, count: u64) -> Result<(), Trouble> {
        while self.came < count {
            let Some(Chunk { head, data }) = place.ports.pull("memory", None)? else {
                return Ok(());
            };
            self.came += 1;
            let name = head.attributes.into_iter().find(|a| a.key == "item");
            let name = name.map(|a| a.value).unwrap_or_default();
            let vector = Hypervector::from_bytes(&data);
            let vector = vector.map_err(|error| Trouble::error(error.to_string()))?;
            if self.items.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if self.items.len() == MEMORY {
                self.items.pop_front();
            }
            self.items.push_back((name, vector));
        }
        Ok(())
    }

    fn nearest(
        &self,
        query: &Hypervector,
    ) -> Result<Option<(&Hypervector, &str, f32)>, vox_vsa::Error> {
        let mut best = None;
        for (name, item) in &self.items {
            let similarity = item.similarity(query)?;
            if best.is_none_or(|(_, _, most)| similarity > most) {
                best = Some((item, name.as_str(), similarity));
            }
        }
        Ok(best)
    }
}
