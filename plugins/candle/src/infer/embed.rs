//! Texts to embeddings, with an encoder or a decoder.

use std::sync::Arc;

use super::decoder::Decoder;
use super::shared::{Model, SharedModel};
use crate::error::{Error, Result};

/// Places that a decoder computes at once.
const PART: usize = 256;

/// Texts that were embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The embeddings, of length 1, one after the other.
    pub numbers: Vec<f32>,
    /// Tokens of all texts together.
    pub tokens: usize,
}

/// Embeds texts with a model.
pub struct Embedder {
    shared: Arc<SharedModel>,
    decoder: Option<Box<dyn Decoder>>,
    context: usize,
    states: Vec<f32>,
    part: Vec<f32>,
}

impl Embedder {
    /// An embedder of texts with at most `context` tokens.
    pub(super) fn new(shared: &Arc<SharedModel>, context: usize) -> Self {
        let decoder = match &shared.model {
            Model::Encoder(_) => None,
            Model::Decoder(engine) => Some(Arc::clone(engine).decoder(context)),
        };
        Self {
            shared: Arc::clone(shared),
            decoder,
            context,
            states: Vec::new(),
            part: Vec::new(),
        }
    }

    /// Length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.shared.architecture.hidden()
    }

    /// The embeddings of texts.
    ///
    /// A text that is longer than `sentence_bert_config.json` of the bundle allows is cut, as its authors'
    /// library does it.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for a text without tokens, and for one over the context; [`Error::Tokens`];
    /// [`Error::Compute`].
    pub fn embed(&mut self, texts: &[impl AsRef<str>]) -> Result<Embedded> {
        let mut all = Embedded {
            numbers: Vec::with_capacity(texts.len() * self.dimensions()),
            tokens: 0,
        };
        for (number, text) in texts.iter().enumerate() {
            let tokens = self.tokens(number, text.as_ref())?;
            all.tokens += tokens.len();
            self.read_states(&tokens)?;
            let width = self.dimensions();
            self.shared
                .pooling
                .pool(&self.states, width, &mut all.numbers);
        }
        if all.numbers.iter().all(|x| x.is_finite()) {
            return Ok(all);
        }
        Err(Error::Compute {
            doing: "embed the texts".to_owned(),
            source: candle_core::Error::Msg(
                "the model gives states that are no numbers".to_owned(),
            ),
        })
    }

    fn tokens(&self, number: usize, text: &str) -> Result<Vec<u32>> {
        let refuse = |why: String| Error::request("texts", format!("text {number} {why}"));
        let tokenizer = &self.shared.tokens;
        let tokens = match self.shared.longest_text {
            Some(longest) => tokenizer.encode_cut(text, longest.min(self.context))?,
            None if tokenizer.fewest(text.len()) > self.context => {
                let (bytes, context) = (text.len(), self.context);
                return Err(refuse(format!(
                    "of {bytes} bytes is over the context of {context} tokens"
                )));
            }
            None => tokenizer.encode(text)?,
        };
        if tokens.is_empty() {
            return Err(refuse("has no tokens".to_owned()));
        }
        if tokens.len() > self.context {
            let (count, context) = (tokens.len(), self.context);
            return Err(refuse(format!(
                "has {count} tokens, over the context of {context}"
            )));
        }
        Ok(tokens)
    }

    fn read_states(&mut self, tokens: &[u32]) -> Result<()> {
        let decoder = match (&self.shared.model, &mut self.decoder) {
            (Model::Encoder(encoder), _) => return encoder.states(tokens, &mut self.states),
            (Model::Decoder(engine), decoder) => {
                decoder.get_or_insert_with(|| Arc::clone(engine).decoder(self.context))
            }
        };
        decoder.truncate(0);
        self.states.clear();
        for (part, tokens) in tokens.chunks(PART).enumerate() {
            decoder.states(tokens, part * PART, &mut self.part)?;
            self.states.extend_from_slice(&self.part);
        }
        Ok(())
    }

    /// Bytes of keys and values on the device.
    pub(super) fn bytes(&self) -> u64 {
        self.decoder.as_ref().map_or(0, |decoder| decoder.bytes())
    }
}
