//! `unfuse`: takes one modality out of fused vectors.
//!
//! It reads the vectors of a [`fuse`](super::fuse) step from the port `fused`, unbinds the role that is asked
//! for, and pushes what is left to `out`. That alone is only somewhat like what went in, since the others are
//! in it as noise: with three modalities about 0.5. Where the plan connects the port `memory` too, the result
//! is the most similar of the vectors that went in, which is the very one with overwhelming probability.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Deserialize;
use vox_host::Ports as _;
use vox_host::contract::{Attribute, Chunk, ChunkHead, step};
use vox_vsa::{Hypervector, ItemMemory};

use super::fuse::role;
use super::{Place, Trouble, counted, done};
use crate::plan::Step;

/// Vectors that are remembered at most; the oldest go first.
const MEMORY: usize = 65_000;

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
        let mut memory: Option<Memory> = None;
        let mut count = 0;
        while let Some(Chunk { mut head, data }) = place.ports.pull("fused", None)? {
            self.refuse_unknown(&head)?;
            let fused = Hypervector::from_bytes(&data).map_err(failed)?;
            let role = role(&self.role, fused.dimensions()).map_err(failed)?;
            let mut found = fused.unbind(&role).map_err(failed)?;
            if self.remembers {
                let remembered = head.attributes.iter().find(|a| a.key == "remembered");
                let remembered = remembered.and_then(|a| a.value.parse().ok()).unwrap_or(0);
                let memory = match &mut memory {
                    Some(memory) => memory,
                    none => none.insert(Memory::new(fused.dimensions()).map_err(failed)?),
                };
                memory.read(place, remembered)?;
                if let Some((name, item, similarity)) =
                    memory.items.clean_up(&found).map_err(failed)?
                {
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

    /// Refuses a chunk that says which roles it has, where the one that is wanted is none of them. Any name can
    /// be unbound, and what is left of it is noise.
    fn refuse_unknown(&self, head: &ChunkHead) -> Result<(), Trouble> {
        let Some(roles) = head.attributes.iter().find(|a| a.key == "roles") else {
            return Ok(());
        };
        let roles: Vec<&str> = roles.value.split(',').collect();
        if roles.contains(&self.role.as_str()) {
            return Ok(());
        }
        Err(Trouble::error(format!(
            "nothing was fused as `{}`: the roles are `{}`; name one of them as `role`",
            self.role,
            roles.join("`, `")
        )))
    }
}

/// The vectors that went into a fusion, by name.
struct Memory {
    items: ItemMemory<String>,
    /// Their names, the oldest first.
    order: VecDeque<String>,
    /// How many came, those included that have gone or came before.
    came: u64,
}

impl Memory {
    fn new(dimensions: usize) -> Result<Self, vox_vsa::Error> {
        Ok(Self {
            items: ItemMemory::new(dimensions, MEMORY)?,
            order: VecDeque::new(),
            came: 0,
        })
    }

    /// Reads on until `count` have come.
    fn read(&mut self, place: &Place<'_>, count: u64) -> Result<(), Trouble> {
        let failed = |error: vox_vsa::Error| Trouble::error(error.to_string());
        while self.came < count {
            let Some(Chunk { head, data }) = place.ports.pull("memory", None)? else {
                return Ok(());
            };
            self.came += 1;
            let name = head.attributes.into_iter().find(|a| a.key == "item");
            let name = name.map(|a| a.value).unwrap_or_default();
            if self.items.get(&name).is_some() {
                continue;
            }
            if self.items.len() == self.items.limit()
                && let Some(oldest) = self.order.pop_front()
            {
                self.items.remove(&oldest);
            }
            let vector = Hypervector::from_bytes(&data).map_err(failed)?;
            self.items.insert(name.clone(), vector).map_err(failed)?;
            self.order.push_back(name);
        }
        Ok(())
    }
}
