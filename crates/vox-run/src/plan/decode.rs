//! Serde's data format over the tree of [`source`](super::source).
//!
//! Two things that serde's own formats do not do are why this exists: a key that a struct does not
//! know is noted with its place and the nearest known key, and decoding goes on; and an error
//! keeps the place of the value that caused it. It decodes self-describing data only.

use std::cell::RefCell;
use std::collections::btree_map;
use std::fmt::Display;
use std::ops::Range;
use std::slice;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;
use vox_contract::Finding;

use super::near;
use super::source::{Content, Member, Node};

/// Decodes `node`; what is wrong is added to `findings`, and then nothing may come back.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node, findings: &mut Vec<Finding>) -> Option<T> {
    let noted = RefCell::default();
    let decoded = T::deserialize(Decoder {
        node,
        noted: &noted,
    });
    findings.append(&mut noted.into_inner());
    match decoded {
        Ok(value) => Some(value),
        Err(Refusal { place, message, .. }) => {
            findings.push(Finding::new(place.unwrap_or(node.span.clone()), message));
            None
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    /// Unknown keys, which do not end the decoding.
    noted: &'a RefCell<Vec<Finding>>,
}

impl Decoder<'_> {
    fn placed(&self, refusal: Refusal) -> Refusal {
        let place = refusal.place.or_else(|| Some(self.node.span.clone()));
        Refusal { place, ..refusal }
    }

    fn note_unknown(&self, key: &str, place: Range<usize>, known: &[&str]) {
        let hint = near(key, known.iter().copied(), "keys");
        self.noted.borrow_mut().push(Finding {
            span: place,
            message: format!("there is no key `{}` here", key.escape_debug()),
            hint: Some(hint),
        });
    }
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let decoded = match &self.node.content {
            Content::Scalar(Value::Null) => visitor.visit_unit(),
            Content::Scalar(Value::Bool(flag)) => visitor.visit_bool(*flag),
            Content::Scalar(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Content::Scalar(Value::String(text)) => visitor.visit_str(text),
            // The reader of the text makes arrays and tables nodes of their own.
            Content::Scalar(Value::Array(_) | Value::Object(_)) => {
                Err(Refusal::custom("a scalar was expected"))
            }
            Content::Array(items) => visitor.visit_seq(Items {
                items: items.iter(),
                of: self,
            }),
            Content::Table(members) => visitor.visit_map(Members {
                members: members.iter(),
                member: None,
                of: self,
                known: None,
            }),
        };
        decoded.map_err(|refusal| self.placed(refusal))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.node.content {
            Content::Scalar(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let Content::Table(members) = &self.node.content else {
            return self.deserialize_any(visitor);
        };
        visitor
            .visit_map(Members {
                members: members.iter(),
                member: None,
                of: self,
                known: Some(fields),
            })
            .map_err(|refusal| self.placed(refusal))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let Content::Scalar(Value::String(word)) = &self.node.content else {
            return Err(self.placed(Refusal::custom(format!(
                "expected a word, found {}",
                self.node.kind()
            ))));
        };
        let word: StrDeserializer<'_, Refusal> = word.as_str().into_deserializer();
        visitor
            .visit_enum(word)
            .map_err(|refusal| self.placed(refusal))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: slice::Iter<'a, Node>,
    of: Decoder<'a>,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Decoder { node, ..self.of }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Members<'a> {
    members: btree_map::Iter<'a, String, Member>,
    /// The key that was handed out last, with its value.
    member: Option<(&'a str, &'a Node)>,
    of: Decoder<'a>,
    /// The keys that a struct has; none for a map, which takes any.
    known: Option<&'static [&'static str]>,
}

impl<'a> MapAccess<'a> for Members<'a> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refusal> {
        for (key, member) in self.members.by_ref() {
            match self.known {
                Some(known) if !known.contains(&key.as_str()) => {
                    self.of.note_unknown(key, member.key.clone(), known);
                }
                _ => {
                    self.member = Some((key.as_str(), &member.value));
                    let name: StrDeserializer<'_, Refusal> = key.as_str().into_deserializer();
                    let place = || Some(member.key.clone());
                    return seed.deserialize(name).map(Some).map_err(|refusal| Refusal {
                        place: refusal.place.or_else(place),
                        ..refusal
                    });
                }
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let Some((key, node)) = self.member.take() else {
            return Err(Refusal::custom("a value was asked for before its key"));
        };
        let decoder = Decoder { node, ..self.of };
        seed.deserialize(decoder)
            .map_err(|refusal| decoder.placed(refusal).at(key, node))
    }
}

/// Why a value could not be decoded, and where it stands once that is known.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Refusal {
    place: Option<Range<usize>>,
    message: String,
    /// What a value of the wrong type was to be, and what it is, until the key that has it is known.
    misfit: Option<(String, String)>,
}

impl Refusal {
    fn misfit(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Map => "a table".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Unit | Unexpected::Option => "null".to_owned(),
            Unexpected::Bool(flag) => format!("`{flag}`"),
            Unexpected::Unsigned(number) => format!("the number {number}"),
            Unexpected::Signed(number) => format!("the number {number}"),
            Unexpected::Float(number) => format!("the number {number}"),
            Unexpected::Str(text) => format!("the text {text:?}"),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "a sequence" => "a list such as `[\"a\"]`",
            "a map" => "a table",
            "a string" => "a text",
            "a boolean" => "`true` or `false`",
            "u32" | "u64" | "usize" => "a whole number, 0 or more",
            expected => expected,
        };
        let wanted = wanted.to_owned();
        Self {
            misfit: Some((wanted.clone(), found.clone())),
            ..Self::custom(format!("expected {wanted}, found {found}"))
        }
    }

    /// The same with the key of the value, where that is what does not fit.
    fn at(mut self, key: &str, value: &Node) -> Self {
        if self.place.as_ref() == Some(&value.span)
            && let Some((wanted, found)) = self.misfit.take()
        {
            self.message = format!("`{}` is {wanted}, not {found}", key.escape_debug());
        }
        self
    }
}

impl Error for Refusal {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            place: None,
            message: message.to_string(),
            misfit: None,
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::misfit(unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::misfit(unexpected, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("`{field}` is missing"))
    }
}
