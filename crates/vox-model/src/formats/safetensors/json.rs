//! The header's JSON, read so that nothing in it is lost: a key that stands twice is seen twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::header::MAX_RANK;

/// Everything that stands in a header, in its order.
#[derive(Debug, Default)]
pub(super) struct RawHeader {
    /// Each `__metadata__`, of which there should be one at most.
    pub(super) metadata: Vec<RawMetadata>,
    /// Every other key.
    pub(super) tensors: Vec<(String, RawTensor)>,
}

/// What stands under `__metadata__`; a value that is not text is `None`.
#[derive(Debug, Default)]
pub(super) struct RawMetadata(pub(super) Vec<(String, Option<String>)>);

/// What stands under a tensor's name.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTensor {
    pub(super) dtype: String,
    pub(super) shape: RawShape,
    pub(super) data_offsets: (u64, u64),
}

/// Dimensions; no more than one above [`MAX_RANK`] are kept.
#[derive(Debug)]
pub(super) struct RawShape(pub(super) Vec<u64>);

/// An index of shards: each tensor's file, and what else stands in it.
#[derive(Debug, Default)]
pub(super) struct RawIndex {
    pub(super) weight_map: Option<RawMetadata>,
    pub(super) total_size: Option<u64>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata.push(map.next_value()?);
                    } else {
                        header.tensors.push((key, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for RawMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = RawMetadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawMetadata, A::Error> {
                let mut texts = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let Text(value) = map.next_value()?;
                    texts.push((key, value));
                }
                Ok(RawMetadata(texts))
            }
        }
        deserializer.deserialize_map(Texts)
    }
}

impl<'de> Deserialize<'de> for RawIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: Option<RawMetadata>,
            metadata: Option<Totals>,
        }
        #[derive(serde::Deserialize)]
        struct Totals {
            total_size: Option<Size>,
        }
        // Some writers give the size as a float.
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Size {
            Whole(u64),
            Other(IgnoredAny),
        }
        let index = Index::deserialize(deserializer)?;
        let size = index.metadata.and_then(|totals| totals.total_size);
        Ok(Self {
            weight_map: index.weight_map,
            total_size: match size {
                Some(Size::Whole(size)) => Some(size),
                Some(Size::Other(IgnoredAny)) | None => None,
            },
        })
    }
}

/// A text, or the fact that something else stands there.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Other(IgnoredAny),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Text(text) => Some(text),
            Either::Other(IgnoredAny) => None,
        }))
    }
}

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = RawShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawShape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = items.next_element()? {
                    if shape.len() <= MAX_RANK {
                        shape.push(dimension);
                    }
                }
                Ok(RawShape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}
