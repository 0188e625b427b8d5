//! Members of a request's object, taken with their names, so that each refusal says which it is about.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// An object of a request. What nobody asks for is ignored, as servers of this API do.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The object that a body is.
    pub fn of(value: &'a Value) -> Result<Self, Refusal> {
        let object = value.as_object();
        object.map(Self).ok_or_else(|| {
            Refusal::bad(format!(
                "the body is {}; it is to be an object",
                kind(value)
            ))
        })
    }

    /// A member, where it is there and not `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some).ok_or_else(|| wrong(name, value, "a text"))
    }

    /// True or false; false where it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(false);
        };
        let flag = value.as_bool();
        flag.ok_or_else(|| wrong(name, value, "true or false"))
    }

    /// A number within bounds.
    pub fn number(
        &self,
        name: &str,
        bounds: RangeInclusive<f64>,
        default: f32,
    ) -> Result<f32, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value
            .as_f64()
            .ok_or_else(|| wrong(name, value, "a number"))?;
        if !bounds.contains(&number) {
            let (least, most) = bounds.into_inner();
            let message = format!("is {number}; it is to be from {least} to {most}");
            return Err(Refusal::param(name, message));
        }
        Ok(number as f32)
    }

    /// A whole number within bounds; `limit` says where the upper one comes from.
    pub fn whole(
        &self,
        name: &str,
        bounds: RangeInclusive<u32>,
        limit: &str,
    ) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let (least, most) = bounds.into_inner();
        if let Some(number) = value.as_u64()
            && (u64::from(least)..=u64::from(most)).contains(&number)
        {
            return Ok(Some(number as u32));
        }
        // Also what no integer type holds is a number, and told as one.
        let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0) else {
            return Err(wrong(name, value, "a whole number"));
        };
        let message = if number < f64::from(least) {
            format!("is {value}; it is to be {least} or more")
        } else {
            format!("is {value}; it is at most {most}{limit}")
        };
        Err(Refusal::param(name, message))
    }

    /// A list.
    pub fn list(&self, name: &str) -> Result<Option<&'a [Value]>, Refusal> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let list = value.as_array();
        list.map(|list| Some(list.as_slice()))
            .ok_or_else(|| wrong(name, value, "a list"))
    }
}

/// A member is missing.
pub fn missing(name: &str, what: &str) -> Refusal {
    Refusal::param(name, format!("is missing: {what}"))
}

/// A member is of another kind than it should be.
pub fn wrong(name: &str, value: &Value, wanted: &str) -> Refusal {
    Refusal::param(name, format!("is {}; it is to be {wanted}", kind(value)))
}

/// What a value is, in words. Values themselves may be large, and are not repeated.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A text of a request, fit to be part of a message: escaped, and no longer than 80 characters.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}
