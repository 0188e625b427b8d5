//! What the head of a GGUF file says of its model (the GGUF specification, version 3: magic, counts, then
//! keys with values). Tensors are not looked at.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

/// The most entries that the head of a GGUF file may have.
const MOST_ENTRIES: u64 = 1 << 16;
/// The longest text in it that is read, in bytes. Chat templates have some ten thousand.
const LONGEST_TEXT: u64 = 16 << 20;
/// Bytes of a key or a value in the cache, which is of `f16`.
const CACHED_BYTES: u64 = 2;

/// A model, as the head of its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// `llama`, `bert`, …
    pub architecture: String,
    /// Bytes of the file.
    pub size: u64,
    numbers: BTreeMap<String, u64>,
}

impl Head {
    /// Reads the head of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none of GGUF.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head =
            Self::parse(&mut BufReader::new(file)).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => invalid("it ends in the middle of its head"),
                _ => error,
            })?;
        head.size = size;
        Ok(head)
    }

    fn parse(reader: &mut (impl Read + Seek)) -> io::Result<Self> {
        let mut magic = [0; 4];
        reader.read_exact(&mut magic)?;
        if magic != *b"GGUF" {
            return Err(invalid("it is no GGUF file"));
        }
        let version = u32(reader)?;
        if !(2..=3).contains(&version) {
            return Err(invalid("its version of GGUF is neither 2 nor 3"));
        }
        let _tensors = u64(reader)?;
        let entries = u64(reader)?;
        if entries > MOST_ENTRIES {
            return Err(invalid("its head has too many entries"));
        }
        let mut head = Self::default();
        for _ in 0..entries {
            let key = text(reader)?;
            match value(reader)? {
                Value::Text(text) if key == "general.architecture" => head.architecture = text,
                Value::Number(number) => {
                    head.numbers.insert(key, number);
                }
                Value::Text(_) | Value::Other => {}
            }
        }
        Ok(head)
    }

    /// Most tokens that the model was made for; 0 where it does not say.
    pub fn context(&self) -> u32 {
        self.of("context_length").try_into().unwrap_or(u32::MAX)
    }

    /// Layers.
    pub fn layers(&self) -> u32 {
        self.of("block_count").try_into().unwrap_or(u32::MAX)
    }

    /// Tokens of the vocabulary.
    pub fn vocabulary(&self) -> u32 {
        let tokens = self.numbers.get("tokenizer.ggml.tokens").copied();
        tokens.unwrap_or(0).try_into().unwrap_or(u32::MAX)
    }

    /// Whether the model makes embeddings, and no texts.
    pub fn embeds(&self) -> bool {
        self.architecture.contains("bert")
    }

    /// Length of its embeddings; 0 where it makes none.
    pub fn dimensions(&self) -> u32 {
        if !self.embeds() {
            return 0;
        }
        self.of("embedding_length").try_into().unwrap_or(u32::MAX)
    }

    /// Bytes that the weights and the keys and values of so many tokens need.
    pub fn memory(&self, tokens: u64) -> u64 {
        let heads = self.of("attention.head_count").max(1);
        let own = self.of("embedding_length") / heads;
        let length = |name: &str| match self.of(name) {
            0 => own,
            length => length,
        };
        let cached_heads = match self.of("attention.head_count_kv") {
            0 => heads,
            heads => heads,
        };
        let numbers = length("attention.key_length") + length("attention.value_length");
        let per_token = numbers
            .saturating_mul(cached_heads)
            .saturating_mul(self.of("block_count"))
            .saturating_mul(CACHED_BYTES);
        self.size.saturating_add(per_token.saturating_mul(tokens))
    }

    /// A number of the architecture; 0 where the file does not say it.
    fn of(&self, name: &str) -> u64 {
        let key = format!("{}.{name}", self.architecture);
        self.numbers.get(&key).copied().unwrap_or(0)
    }
}

/// A value, as far as it matters here. Of a list it is the length.
enum Value {
    Text(String),
    Number(u64),
    Other,
}

fn value(reader: &mut (impl Read + Seek)) -> io::Result<Value> {
    let kind = u32(reader)?;
    match kind {
        4 => u32(reader).map(|number| Value::Number(number.into())),
        10 => u64(reader).map(Value::Number),
        8 => text(reader).map(Value::Text),
        9 => {
            let element = u32(reader)?;
            let count = u64(reader)?;
            if element == 8 {
                for _ in 0..count {
                    let length = u64(reader)?;
                    skip(reader, length)?;
                }
            } else {
                let bytes = width(element)?.checked_mul(count);
                skip(
                    reader,
                    bytes.ok_or_else(|| invalid("a list of its head is too long"))?,
                )?;
            }
            Ok(Value::Number(count))
        }
        other => {
            skip(reader, width(other)?)?;
            Ok(Value::Other)
        }
    }
}

/// Bytes of a value of a kind.
fn width(kind: u32) -> io::Result<u64> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(invalid("its head has a value of an unknown kind")),
    }
}

fn skip(reader: &mut (impl Read + Seek), bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).map_err(|_| invalid("a value of its head is too long"))?;
    reader.seek_relative(bytes)
}

fn text(reader: &mut impl Read) -> io::Result<String> {
    let length = u64(reader)?;
    if length > LONGEST_TEXT {
        return Err(invalid("a text of its head is too long"));
    }
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn u32(reader: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::tests::head::head;

    #[test]
    fn a_head_tells_what_the_model_needs() {
        let head = Head::parse(&mut Cursor::new(head("llama"))).unwrap();
        assert_eq!(
            (head.context(), head.layers(), head.vocabulary()),
            (512, 2, 3)
        );
        assert!(!head.embeds());
        // Two vectors of 16 numbers of 2 bytes, for each of 2 heads in 2 layers.
        assert_eq!(head.memory(10), 10 * 2 * 16 * 2 * 2 * 2);
    }

    #[test]
    fn a_model_for_embeddings_is_known_by_its_architecture() {
        let head = Head::parse(&mut Cursor::new(head("nomic-bert"))).unwrap();
        assert!(head.embeds());
        assert_eq!(head.dimensions(), 64);
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let whole = head("llama");
        for end in 0..whole.len() {
            // A list at the end may be cut where its last text is empty.
            let parsed = Head::parse(&mut Cursor::new(&whole[..end]));
            assert!(parsed.is_err() || end > whole.len() - 8, "{end}");
        }
        let mut other = whole.clone();
        other[0] = b'X';
        let error = Head::parse(&mut Cursor::new(other)).unwrap_err();
        assert!(error.to_string().contains("no GGUF"));
        let mut many = whole;
        many[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Head::parse(&mut Cursor::new(many)).is_err());
    }
}
