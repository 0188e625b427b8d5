//! Chunks that belong together, and how they are found.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde::{Deserialize, Serialize};
use vox_crypto::canonical;
use vox_host::Ports as _;
use vox_host::contract::{Attribute, Chunk, ChunkHead};

use super::Trouble;
use crate::ports::StepPorts;

/// The modality of a set of chunks: the canonical CBOR of a [`Set`].
pub(crate) const SET: &str = "fusion/set";

/// Chunks by the name of the port that each came from.
pub(crate) type Set = BTreeMap<String, Chunk>;

/// A chunk as it stands in the encoding of a set: a map with these members.
#[derive(Serialize, Deserialize)]
struct Member {
    modality: String,
    sequence: u64,
    timestamp: u64,
    attributes: Vec<Attribute>,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

/// The canonical CBOR of a set.
pub(crate) fn encode(set: &Set) -> Result<Vec<u8>, Trouble> {
    let members: BTreeMap<&String, Member> = set
        .iter()
        .map(|(port, Chunk { head, data })| {
            let member = Member {
                modality: head.modality.clone(),
                sequence: head.sequence,
                timestamp: head.timestamp,
                attributes: head.attributes.clone(),
                data: data.clone(),
            };
            (port, member)
        })
        .collect();
    canonical::encode(&members).map_err(|error| Trouble::error(error.to_string()))
}

/// The set that an encoding holds.
pub(crate) fn decode(bytes: &[u8]) -> Result<Set, Trouble> {
    let members: BTreeMap<String, Member> = canonical::decode_any(bytes)
        .map_err(|error| Trouble::error(format!("it is no set of chunks: {error}")))?;
    let chunk = |(port, member): (String, Member)| {
        let head = ChunkHead {
            modality: member.modality,
            sequence: member.sequence,
            timestamp: member.timestamp,
            attributes: member.attributes,
        };
        let data = member.data;
        (port, Chunk { head, data })
    };
    Ok(members.into_iter().map(chunk).collect())
}

/// The chunk that comes first of each stream, in step.
pub(crate) struct Zip<'a> {
    pub ports: &'a StepPorts,
    pub names: Vec<String>,
}

impl Zip<'_> {
    /// The next chunk of each; none once one of the streams is over.
    pub fn next(&mut self) -> Result<Option<Set>, Trouble> {
        let mut set = Set::new();
        for name in &self.names {
            match self.ports.pull(name, None)? {
                Some(chunk) => set.insert(name.clone(), chunk),
                None => return Ok(None),
            };
        }
        Ok(Some(set))
    }
}

/// Chunks whose time stamps lie close together.
///
/// The earliest of the chunks that stand first is what the others are compared with. When the first
/// of another stream is too late for it, it has no partner there and is passed over.
pub(crate) struct ByTime<'a> {
    pub ports: &'a StepPorts,
    pub tolerance: Duration,
    /// What has been pulled of each stream and not been used.
    pub heads: BTreeMap<String, VecDeque<Chunk>>,
    /// Chunks that found no partner.
    pub passed_over: u64,
}

impl<'a> ByTime<'a> {
    pub fn new(ports: &'a StepPorts, names: Vec<String>, tolerance: Duration) -> Self {
        Self {
            ports,
            tolerance,
            heads: names
                .into_iter()
                .map(|name| (name, VecDeque::new()))
                .collect(),
            passed_over: 0,
        }
    }

    /// The next chunks that belong together; none once one of the streams is over.
    pub fn next(&mut self) -> Result<Option<Set>, Trouble> {
        let tolerance = u64::try_from(self.tolerance.as_nanos()).unwrap_or(u64::MAX);
        loop {
            for (name, waiting) in &mut self.heads {
                if waiting.is_empty() {
                    match self.ports.pull(name, None)? {
                        Some(chunk) => waiting.push_back(chunk),
                        None => return Ok(None),
                    }
                }
            }
            let time =
                |waiting: &VecDeque<Chunk>| waiting.front().map_or(0, |chunk| chunk.head.timestamp);
            let earliest = self.heads.values().map(time).min().unwrap_or(0);
            let latest = self.heads.values().map(time).max().unwrap_or(0);
            if latest - earliest <= tolerance {
                let set = self.heads.iter_mut().filter_map(|(name, waiting)| {
                    waiting.pop_front().map(|chunk| (name.clone(), chunk))
                });
                return Ok(Some(set.collect()));
            }
            for waiting in self.heads.values_mut() {
                if time(waiting) == earliest && waiting.pop_front().is_some() {
                    self.passed_over += 1;
                }
            }
        }
    }
}

/// A chunk with the name of the port that it came from, or why no more come from there.
pub(crate) type Arrival = Result<(String, Chunk), Trouble>;

/// Every chunk of every stream, as they come, each with the name of its port. Threads of their own
/// pull; they end with their streams, or when nobody takes what they have.
pub(crate) fn merged(
    ports: &Arc<StepPorts>,
    names: &[String],
) -> Result<Receiver<Arrival>, Trouble> {
    let (sender, receiver) = crossbeam_channel::bounded(names.len());
    for name in names {
        let (ports, name, sender) = (Arc::clone(ports), name.clone(), sender.clone());
        let body = move || {
            loop {
                let sent = match ports.pull(&name, None) {
                    Ok(Some(chunk)) => sender.send(Ok((name.clone(), chunk))),
                    Ok(None) => return,
                    Err(error) => {
                        let _ = sender.send(Err(error.into()));
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("vox-fuse".to_owned())
            .spawn(body)
            .map_err(|error| Trouble::error(format!("no thread can be started: {error}")))?;
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_comes_back_out_of_its_encoding() {
        let chunk = |modality: &str, data: &[u8]| Chunk {
            head: ChunkHead {
                modality: modality.into(),
                sequence: 3,
                timestamp: 7,
                attributes: Vec::new(),
            },
            data: data.to_vec(),
        };
        let set = Set::from([
            ("audio".to_owned(), chunk("audio/pcm", b"\0\xff")),
            ("text".to_owned(), chunk("text", b"word")),
        ]);
        assert_eq!(decode(&encode(&set).unwrap()).unwrap(), set);
        assert!(decode(b"nonsense").is_err());
    }
}
