//! Data as rows that a training takes its batches from.
//!
//! A dataset has two hashes. [`Dataset::hash`] is over the bytes of the files, not their names, and
//! over all settings that decide which rows come out of them; the order of a training is addressed
//! by it. The file of tokens is named by what decides the tokens: files, context, template, and the
//! tokenizer's hash. So a training that resumes, or one with another split or packing, tokenises
//! nothing again.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use vox_crypto::{Digest, canonical};

use super::batch::Part;
use super::example::{Encoder, Overlong, Tokenizer};
use super::pack::{Layout, Packing};
use super::record::Kind;
use super::source::{Located, Source};
use super::split::Split;
use super::template::Template;
use super::token_file::{Summary, TokenFile, TokenFileWriter};
use crate::error::Error;

/// Records between two calls of the observer.
const OBSERVED: u64 = 64;

/// What a dataset is made of.
#[derive(Clone, Copy)]
pub struct DatasetSpec<'a> {
    /// The data.
    pub source: &'a Source,
    /// Data for evaluation alone, in place of a split.
    pub evaluation: Option<&'a Source>,
    /// How much of `source` is held back for evaluation.
    pub split: Split,
    /// Tokens of a row: the context.
    pub columns: u32,
    /// How examples become rows.
    pub packing: Packing,
    /// What becomes of examples over the context.
    pub overlong: Overlong,
    /// Whether lines that cannot be used are left out and counted; otherwise the first is an error.
    pub skip_invalid: bool,
    /// The model's chat template, which conversations need.
    pub template: Option<&'a Template>,
    /// The token that the model has after a text, as it is written.
    pub end: Option<&'a str>,
}

/// A tokenizer and its identity.
#[derive(Clone, Copy)]
pub struct Identified<'a> {
    /// The tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
    /// A hash over all that decides which tokens it makes.
    pub hash: Digest,
}

/// How far the tokenising is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokenising {
    /// Bytes of the files that were read.
    pub bytes: u64,
    /// Their size.
    pub total: u64,
    /// Tokens that were made.
    pub tokens: u64,
}

/// Told from time to time how far the tokenising is; breaks when it is to be given up.
pub type Observer<'a> = dyn FnMut(Tokenising) -> ControlFlow<()> + 'a;

/// Where the tokens came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// They were made.
    Made,
    /// They were there.
    Cached,
    /// Those that were there were damaged, so that they were made anew.
    Mended {
        /// What was wrong with them.
        why: String,
    },
}

/// Rows to train on and rows to evaluate on.
#[derive(Debug)]
pub struct Dataset {
    hash: Digest,
    kinds: Vec<Kind>,
    training: Part,
    evaluation: Option<Part>,
    tokens: Tokens,
}

impl Dataset {
    /// Tokenises the data, unless that was done before, and lays out the rows. Files of tokens are
    /// kept in `cache`.
    ///
    /// # Errors
    /// [`Error::Line`] for the first line that cannot be used, unless those are left out;
    /// [`Error::NoExamples`], [`Error::NothingToTrain`], [`Error::NoTemplate`]; and what is wrong
    /// with the tokenizer, the files and the cache. [`Error::Interrupted`] when the observer breaks.
    pub fn open(
        spec: DatasetSpec<'_>,
        tokenizer: Identified<'_>,
        cache: &Path,
        observer: &mut Observer<'_>,
    ) -> Result<Self, Error> {
        let (file, tokens) = spec.tokens(spec.source, tokenizer, cache, observer)?;
        let sides = match spec.evaluation {
            Some(_) => Split::None,
            None => spec.split,
        };
        let sides = sides.divide(file.hashes());
        if sides.training.is_empty() {
            return Err(Error::NothingToTrain {
                examples: file.len() as u64,
            });
        }
        let file = Arc::new(file);
        let evaluation = match spec.evaluation {
            Some(source) => {
                let (file, _) = spec.tokens(source, tokenizer, cache, observer)?;
                let all = (0..file.len() as u32).collect();
                Some(spec.part(Arc::new(file), all))
            }
            None if sides.evaluation.is_empty() => None,
            None => Some(spec.part(file.clone(), sides.evaluation)),
        };
        Ok(Self {
            hash: spec.hash(),
            kinds: spec.source.kinds(),
            training: spec.part(file, sides.training),
            evaluation,
            tokens,
        })
    }

    /// The hash that addresses the order of a training; see the module.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// What its files hold; of the data for evaluation alone, nothing.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The rows to train on.
    pub fn training(&self) -> &Part {
        &self.training
    }

    /// The rows to evaluate on.
    pub fn evaluation(&self) -> Option<&Part> {
        self.evaluation.as_ref()
    }

    /// What was found in the data; of the data for evaluation alone, nothing.
    pub fn summary(&self) -> &Summary {
        self.training.file().summary()
    }

    /// Where the tokens came from.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// What decides the tokens of a source.
#[derive(Serialize)]
struct TokensKey {
    version: u32,
    files: Vec<(Digest, Kind)>,
    columns: u32,
    overlong: Overlong,
    skip_invalid: bool,
    template: Option<Digest>,
    end: Option<String>,
    tokenizer: Option<Digest>,
}

/// What decides the rows of a dataset. Numbers are written as texts, since canonical CBOR has no
/// floats here that everybody writes in the same way.
#[derive(Serialize)]
struct RowsKey {
    training: TokensKey,
    evaluation: Option<Vec<(Digest, Kind)>>,
    split: String,
    packing: Packing,
}

impl DatasetSpec<'_> {
    /// A hash over the data and all settings; the tokenizer plays no part in it.
    pub fn hash(&self) -> Digest {
        let key = RowsKey {
            training: self.key(self.source, None),
            evaluation: self.evaluation.map(|source| self.key(source, None).files),
            split: match self.split {
                Split::None => "none".into(),
                Split::Fraction(part) => format!("fraction {part}"),
                Split::Count(count) => format!("count {count}"),
            },
            packing: self.packing,
        };
        digest(&key)
    }

    fn key(&self, source: &Source, tokenizer: Option<Digest>) -> TokensKey {
        let files = source.files().iter();
        let uses_template = source
            .files()
            .iter()
            .any(|file| file.kind == Kind::Messages);
        TokensKey {
            version: 1,
            files: files.map(|file| (file.digest, file.kind)).collect(),
            columns: self.columns,
            overlong: self.overlong,
            skip_invalid: self.skip_invalid,
            // The template of a model plays no part in data without conversations.
            template: self
                .template
                .filter(|_| uses_template)
                .map(Template::digest),
            end: self.end.map(str::to_owned),
            tokenizer,
        }
    }

    fn part(&self, file: Arc<TokenFile>, members: Vec<u32>) -> Part {
        let layout = match self.packing {
            Packing::Packed => {
                let lengths: Vec<u32> =
                    members.iter().map(|member| file.columns(*member)).collect();
                Layout::packed(&lengths, self.columns)
            }
            Packing::Padded => Layout::padded(members.len() as u32),
        };
        Part::new(file, members, layout, self.columns, self.packing)
    }

    /// The tokens of a source, out of the cache or made.
    fn tokens(
        &self,
        source: &Source,
        tokenizer: Identified<'_>,
        cache: &Path,
        observer: &mut Observer<'_>,
    ) -> Result<(TokenFile, Tokens), Error> {
        let key = digest(&self.key(source, Some(tokenizer.hash)));
        let path = cache.join(format!("{}.tokens", key.to_hex()));
        let came = match TokenFile::open(&path) {
            Ok(Some(file)) => return Ok((file, Tokens::Cached)),
            Ok(None) => Tokens::Made,
            Err(Error::Damaged { message, .. }) => Tokens::Mended { why: message },
            Err(error) => return Err(error),
        };
        self.tokenise(source, tokenizer.tokenizer, &path, observer)?;
        match TokenFile::open(&path)? {
            Some(file) => Ok((file, came)),
            None => Err(Error::read(&path)(std::io::ErrorKind::NotFound.into())),
        }
    }

    fn tokenise(
        &self,
        source: &Source,
        tokenizer: &dyn Tokenizer,
        path: &Path,
        observer: &mut Observer<'_>,
    ) -> Result<(), Error> {
        let encoder = Encoder::new(
            tokenizer,
            self.template,
            self.end,
            self.columns as usize,
            self.overlong,
        )?;
        let mut writer = TokenFileWriter::new(path)?;
        let mut examples = Vec::new();
        let mut records = source.records();
        let mut count = 0_u64;
        while let Some(record) = records.next() {
            examples.clear();
            let encoded = record.and_then(|located| {
                let Located { file, line, record } = located;
                let file = source.files().get(file).map(|file| file.path.as_path());
                encoder.encode(&record, file.unwrap_or(Path::new("")), line, &mut examples)
            });
            match encoded {
                Ok(()) => writer.add(&examples)?,
                Err(Error::Line(fault)) if self.skip_invalid => writer.skip(fault.to_string()),
                Err(error) => return Err(error),
            }
            count += 1;
            if count.is_multiple_of(OBSERVED) {
                let tokenising = Tokenising {
                    bytes: records.bytes(),
                    total: source.bytes(),
                    tokens: writer.summary().tokens,
                };
                if observer(tokenising).is_break() {
                    return Err(Error::Interrupted);
                }
            }
        }
        if writer.summary().records == 0 {
            let first = source.files().first().map(|file| file.path.clone());
            return Err(Error::NoExamples {
                path: first.unwrap_or_default(),
                skipped: writer.summary().skipped,
            });
        }
        writer.finish()
    }
}

/// The hash of a key. All that stands in one can be encoded.
fn digest(key: &impl Serialize) -> Digest {
    let bytes = canonical::encode(key);
    debug_assert!(bytes.is_ok(), "a key of a dataset is encodable");
    vox_crypto::hash(&bytes.unwrap_or_default())
}
