//! The filter `tojson`, as `json.dumps` of Python writes: no HTML is escaped, and what is not
//! ASCII stays as it is, unless `ensure_ascii` is set.

use std::io::{self, Write};

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// `value | tojson(indent=none, ensure_ascii=false, separators=none, sort_keys=false)`.
pub(super) fn tojson(
    value: &Value,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = indent.or(options.get("indent")?);
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Value> = options.get("separators")?;
    let separators = separators
        .filter(|pair| !pair.is_none())
        .map(|pair| pair_of(&pair));
    options.assert_all_used()?;
    let value = if sorted == Some(true) {
        with_sorted_keys(value)?
    } else {
        value.clone()
    };
    let spaces = match indent {
        Some(indent) if !indent.is_none() => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(MAX_INDENT)),
        }),
        _ => None,
    };
    let defaults = if spaces.is_some() {
        (",".to_owned(), ": ".to_owned())
    } else {
        (", ".to_owned(), ": ".to_owned())
    };
    let style = Style {
        lines: spaces
            .as_ref()
            .map(|spaces| PrettyFormatter::with_indent(spaces.as_bytes())),
        separators: separators.transpose()?.unwrap_or(defaults),
        ascii: ascii == Some(true),
    };
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, style))
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(Value::from(text))
}

/// The two texts of a pair.
fn pair_of(pair: &Value) -> Result<(String, String), Error> {
    let texts: Vec<String> = pair
        .try_iter()?
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect();
    <[String; 2]>::try_from(texts)
        .map(|[item, key]| (item, key))
        .map_err(|_| {
            let message = "`separators` are two texts, such as `(',', ':')`";
            Error::new(ErrorKind::InvalidOperation, message)
        })
}

/// More than anybody indents by.
const MAX_INDENT: usize = 64;

/// The value with all its maps in the order of their keys.
fn with_sorted_keys(value: &Value) -> Result<Value, Error> {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            keys.sort();
            let members = keys.into_iter().map(|key| {
                let member = with_sorted_keys(&value.get_item(&key)?)?;
                Ok((key, member))
            });
            Ok(Value::from_pairs(
                members.collect::<Result<Vec<_>, Error>>()?,
            ))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| with_sorted_keys(&item));
            Ok(items.collect::<Result<Vec<_>, _>>()?.into())
        }
        _ => Ok(value.clone()),
    }
}

/// Python's separators, with or without line breaks.
struct Style<'a> {
    lines: Option<PrettyFormatter<'a>>,
    /// Between items, and between key and value.
    separators: (String, String),
    ascii: bool,
}

/// Hands a call to the formatter that breaks lines, if there is one.
macro_rules! delegated {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $name<W: ?Sized + Write>(&mut self, writer: &mut W, $($argument: $type),*) -> io::Result<()> {
            match &mut self.lines {
                Some(lines) => lines.$name(writer, $($argument),*),
                None => CompactFormatter.$name(writer, $($argument),*),
            }
        })*
    };
}

impl Formatter for Style<'_> {
    delegated! {
        begin_array();
        end_array();
        end_array_value();
        begin_object();
        end_object();
        end_object_value();
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.separators.1.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Python leaves the delete character alone in both modes.
        if !self.ascii || fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

impl Style<'_> {
    fn item<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.separators.0.as_bytes())?;
        }
        match &mut self.lines {
            // As the first of a list, so that it writes a line break and no comma.
            Some(lines) => lines.begin_array_value(writer, true),
            None => Ok(()),
        }
    }
}
