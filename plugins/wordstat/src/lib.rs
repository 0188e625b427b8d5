//! The stage `wordstat`: passes a stream on untouched, counts its words, and reports them as
//! metrics.
//!
//! ```toml
//! stdin = { from = "read.stdout", through = [{ stage = "wordstat", with = { top = 3 } }] }
//! ```
//!
//! | argument | default | meaning |
//! |---|---|---|
//! | `top` | `10` | how many of the most frequent words are reported |
//! | `min_length` | `4` | characters that a word has at least to be among them |
//!
//! | metric | |
//! |---|---|
//! | `chunks_total`, `bytes_total` | of every modality |
//! | `lines_total`, `words_total` | of text; the last line counts also without an end |
//! | `distinct_words` | exact up to 65 536, then an estimate with a standard error of 0.8 % |
//! | `word_occurrences_total{word="…"}` | of the most frequent words |
//!
//! A word is a run of letters and digits of any script, in lower case, with apostrophes between them
//! (`don't`). It counts once however the stream is cut into chunks.

mod distinct;
mod words;

use serde::Deserialize;
use vox_plugin::metrics::{Kind, Sample};
use vox_plugin::stage::Opening;
use vox_plugin::{
    Attribute, ChunkHead, Metrics, Result, Stage, attribute, from_json, host, plugin,
};

use crate::distinct::WordCounts;
use crate::words::Words;

/// The stage's arguments.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    top: usize,
    min_length: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            top: 10,
            min_length: 4,
        }
    }
}

/// The plugin; an instance serves one stream.
#[plugin(stage, metrics)]
#[derive(Default)]
struct Wordstat {
    arguments: Arguments,
    counts: Counts,
}

/// What was counted of a stream.
#[derive(Default)]
struct Counts {
    chunks: u64,
    bytes: u64,
    words: u64,
    /// Ends of lines.
    lines: u64,
    /// Whether the text goes on behind the last end of a line.
    in_line: bool,
    cutter: Words,
    occurrences: WordCounts,
}

impl Stage for Wordstat {
    fn open(&mut self, opening: Opening) -> Result<()> {
        self.arguments = from_json(&opening.arguments)?;
        self.counts = Counts::default();
        Ok(())
    }

    fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
        host::stream::push("out", &head, data, None)?;
        self.counts.take(&head, data);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.counts.finish();
        Ok(())
    }
}

impl Metrics for Wordstat {
    fn collect(&mut self) -> Result<Vec<Sample>> {
        Ok(self.counts.samples(&self.arguments))
    }
}

impl Counts {
    fn take(&mut self, head: &ChunkHead, data: &[u8]) {
        self.chunks += 1;
        self.bytes += data.len() as u64;
        if head.modality == "text" {
            self.lines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.in_line = data.last().map_or(self.in_line, |last| *last != b'\n');
            let Self {
                cutter,
                words,
                occurrences,
                ..
            } = self;
            cutter.feed(data, &mut count_into(words, occurrences));
        }
    }

    fn finish(&mut self) {
        self.lines += u64::from(std::mem::take(&mut self.in_line));
        let Self {
            cutter,
            words,
            occurrences,
            ..
        } = self;
        cutter.finish(&mut count_into(words, occurrences));
    }

    fn samples(&self, arguments: &Arguments) -> Vec<Sample> {
        let counter =
            |name, help, count| sample(name, Kind::Counter, help, count as f64, Vec::new());
        let mut samples = vec![
            counter("chunks_total", "Chunks that went through", self.chunks),
            counter("bytes_total", "Bytes that went through", self.bytes),
            counter("lines_total", "Lines of text", self.lines),
            counter("words_total", "Words of text", self.words),
            sample(
                "distinct_words",
                Kind::Gauge,
                "Different words",
                self.occurrences.distinct(),
                Vec::new(),
            ),
        ];
        let top = self.occurrences.top(arguments.top, arguments.min_length);
        samples.extend(top.into_iter().map(|(word, occurrences)| {
            sample(
                "word_occurrences_total",
                Kind::Counter,
                "Occurrences of each of the most frequent words",
                occurrences as f64,
                vec![attribute("word", word)],
            )
        }));
        samples
    }
}

fn count_into(words: &mut u64, occurrences: &mut WordCounts) -> impl FnMut(&str) {
    |word| {
        *words += 1;
        occurrences.add(word);
    }
}

fn sample(name: &str, kind: Kind, help: &str, value: f64, labels: Vec<Attribute>) -> Sample {
    Sample {
        name: name.to_owned(),
        kind,
        help: help.to_owned(),
        value,
        labels,
    }
}

#[cfg(test)]
mod tests {
    use vox_plugin::text_chunk;

    use super::*;

    /// Names of metrics, with the word where there is one, and their values.
    fn measured(counts: &Counts, arguments: &Arguments) -> Vec<(String, f64)> {
        let name = |sample: &Sample| match &sample.labels[..] {
            [label] => format!("{}{{{}={}}}", sample.name, label.key, label.value),
            _ => sample.name.clone(),
        };
        counts
            .samples(arguments)
            .iter()
            .map(|sample| (name(sample), sample.value))
            .collect()
    }

    #[test]
    fn everything_is_counted_across_chunks() {
        let mut counts = Counts::default();
        for (sequence, text) in ["The wh", "ale, the\n", "sea; a Whale", ""]
            .iter()
            .enumerate()
        {
            counts.take(&text_chunk(sequence as u64), text.as_bytes());
        }
        counts.finish();
        let expected = [
            ("chunks_total", 4.0),
            ("bytes_total", 27.0),
            ("lines_total", 2.0),
            ("words_total", 6.0),
            ("distinct_words", 4.0),
            ("word_occurrences_total{word=whale}", 2.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(measured(&counts, &Arguments::default()), expected);
    }

    #[test]
    fn the_top_is_as_long_as_asked_for() {
        let mut counts = Counts::default();
        counts.take(&text_chunk(0), b"a b b cc cc cc ");
        let top = measured(
            &counts,
            &Arguments {
                top: 2,
                min_length: 1,
            },
        )
        .split_off(5);
        let expected = [
            ("word_occurrences_total{word=cc}", 3.0),
            ("word_occurrences_total{word=b}", 2.0),
        ];
        assert_eq!(top, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn what_is_no_text_has_no_words() {
        let mut counts = Counts::default();
        counts.take(
            &ChunkHead {
                modality: "image/png".into(),
                ..text_chunk(0)
            },
            b"one two\n",
        );
        counts.finish();
        assert_eq!((counts.chunks, counts.bytes), (1, 8));
        assert_eq!((counts.words, counts.lines), (0, 0));
    }
}
