//! A model in several files, and the index that says which tensor stands in which.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::SafeTensorsError;
use super::header::without_place;
use super::json::RawIndex;
use super::write::{PlannedTensor, WritePlan};
use crate::TensorInfo;

/// One file of several.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name, such as `model-00001-of-00003.safetensors`.
    pub file_name: String,
    /// What is to be written into it.
    pub plan: WritePlan,
}

/// Tensors that are to be written into several files.
#[derive(Debug, Clone)]
pub struct ShardPlan {
    shards: Vec<Shard>,
}

impl ShardPlan {
    /// Splits tensors in their given order into files of at most `max_data_bytes` of data each; one
    /// that is larger alone gets a file of its own. What fits into one file is one, named
    /// `model.safetensors`.
    ///
    /// # Errors
    ///
    /// As [`WritePlan::of`].
    pub fn new(
        tensors: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
        max_data_bytes: u64,
    ) -> Result<Self, SafeTensorsError> {
        // Names are unique in the whole model, not in a shard alone.
        WritePlan::new(tensors, metadata)?;
        let mut groups: Vec<Vec<PlannedTensor>> = Vec::new();
        let mut filled = u64::MAX;
        for (index, info) in tensors.iter().cloned().enumerate() {
            let needed = info.byte_len().unwrap_or(u64::MAX);
            filled = filled.saturating_add(needed);
            let tensor = PlannedTensor { index, info };
            match groups.last_mut() {
                Some(group) if filled <= max_data_bytes => group.push(tensor),
                _ => {
                    groups.push(vec![tensor]);
                    filled = needed;
                }
            }
        }
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        let count = groups.len();
        let shards = groups.into_iter().enumerate().map(|(number, tensors)| {
            Ok(Shard {
                file_name: if count == 1 {
                    "model.safetensors".to_owned()
                } else {
                    format!("model-{:05}-of-{count:05}.safetensors", number + 1)
                },
                plan: WritePlan::of(tensors, metadata)?,
            })
        });
        Ok(Self {
            shards: shards.collect::<Result<_, _>>()?,
        })
    }

    /// The files; at least one.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The index of these files.
    pub fn index(&self) -> ShardIndex {
        let files = self.shards.iter().flat_map(|shard| {
            let tensors = shard.plan.tensors().iter();
            tensors.map(|tensor| (tensor.info.name.clone(), shard.file_name.clone()))
        });
        let sizes = self.shards.iter().map(|shard| shard.plan.data_len());
        ShardIndex {
            weight_map: files.collect(),
            total_size: Some(sizes.fold(0, u64::saturating_add)),
        }
    }
}

/// What `model.safetensors.index.json` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    weight_map: BTreeMap<String, String>,
    total_size: Option<u64>,
}

impl ShardIndex {
    /// The name under which an index stands beside its shards.
    pub const FILE_NAME: &'static str = "model.safetensors.index.json";

    /// Reads an index.
    ///
    /// # Errors
    ///
    /// [`SafeTensorsError::Index`], also where a tensor stands twice, and where a file's name would
    /// lead out of the index's own directory.
    pub fn parse(bytes: &[u8]) -> Result<Self, SafeTensorsError> {
        let fault = |why: String| SafeTensorsError::Index { why };
        let raw: RawIndex = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            fault(format!(
                "line {line}, column {column}: {}",
                without_place(&error)
            ))
        })?;
        let files = raw.weight_map;
        let files = files.ok_or_else(|| fault("it has no `weight_map`".to_owned()))?;
        let mut weight_map = BTreeMap::new();
        for (tensor, file) in files.0 {
            let shown = tensor.escape_debug();
            let Some(file) = file.filter(|file| is_plain_name(file)) else {
                return Err(fault(format!(
                    "the file of the tensor `{shown}` is no name of a file beside the index"
                )));
            };
            if weight_map.insert(tensor.clone(), file).is_some() {
                return Err(fault(format!("the tensor `{shown}` stands in it twice")));
            }
        }
        Ok(Self {
            weight_map,
            total_size: raw.total_size,
        })
    }

    /// The file of each tensor.
    pub fn weight_map(&self) -> &BTreeMap<String, String> {
        &self.weight_map
    }

    /// Bytes of all tensors' data, where the index says so.
    pub fn total_size(&self) -> Option<u64> {
        self.total_size
    }

    /// The files, each once, sorted.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.weight_map.values().map(String::as_str).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// The index as it is written: equal ones give equal text.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Totals {
            #[serde(skip_serializing_if = "Option::is_none")]
            total_size: Option<u64>,
        }
        #[derive(Serialize)]
        struct Index<'a> {
            metadata: Totals,
            weight_map: &'a BTreeMap<String, String>,
        }
        let index = Index {
            metadata: Totals {
                total_size: self.total_size,
            },
            weight_map: &self.weight_map,
        };
        // Text under text can always be written.
        let mut json = serde_json::to_string_pretty(&index).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// True for the name of a file that can only stand in the directory that is looked in.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', ':'])
        && !name.contains(char::is_control)
}
