//! One embedding out of the states of all tokens, as a bundle of sentence-transformers says it.

use std::path::Path;

use crate::architecture::fields::{Fields, read_object};
use crate::architecture::most;
use crate::error::{Error, Result};

/// How the states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The state of the first token.
    First,
    /// The mean of all states.
    Mean,
    /// Of each element the highest.
    Highest,
    /// The state of the last token.
    Last,
}

/// The flags of `1_Pooling/config.json`, and what they stand for.
const FLAGS: &[(&str, Option<Pooling>)] = &[
    ("pooling_mode_cls_token", Some(Pooling::First)),
    ("pooling_mode_mean_tokens", Some(Pooling::Mean)),
    ("pooling_mode_max_tokens", Some(Pooling::Highest)),
    ("pooling_mode_lasttoken", Some(Pooling::Last)),
    ("pooling_mode_mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", None),
];

impl Pooling {
    /// What `modules.json` and the configuration of its pooling say; the mean where there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Format`]; [`Error::Field`] for modules and poolings that are not built in.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("modules.json");
        if !path.is_file() {
            return Ok(Self::Mean);
        }
        let text = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let modules: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_slice(&text).map_err(Error::format(&path))?;
        let mut pooling = Self::Mean;
        for module in &modules {
            let fields = Fields::new(&path, module);
            let kind = fields.text("type")?.unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" | "Normalize" => {}
                "Pooling" => pooling = Self::of_module(directory, &fields)?,
                other => {
                    let why = format!(
                        "`{}` is unknown; known are Transformer, Pooling and Normalize",
                        other.escape_debug()
                    );
                    return Err(fields.fault("type", why));
                }
            }
        }
        Ok(pooling)
    }

    fn of_module(directory: &Path, module: &Fields<'_>) -> Result<Self> {
        let folder = module.text("path")?.unwrap_or("1_Pooling");
        if folder.contains("..") || Path::new(folder).is_absolute() {
            return Err(module.fault("path", "it leads out of the bundle"));
        }
        let path = directory.join(folder).join("config.json");
        let object = read_object(&path)?;
        let fields = Fields::new(&path, &object);
        let mut found = None;
        for &(flag, pooling) in FLAGS {
            if fields.flag(flag)? != Some(true) {
                continue;
            }
            let Some(pooling) = pooling else {
                return Err(fields.fault(flag, "this pooling is not built in"));
            };
            if found.replace(pooling).is_some() {
                return Err(fields.fault(flag, "there is another pooling beside it"));
            }
        }
        Ok(found.unwrap_or(Self::Mean))
    }

    /// The vector of states of `width` elements each, of length 1; it is appended to `out`.
    pub fn pool(self, states: &[f32], width: usize, out: &mut Vec<f32>) {
        let rows = states.chunks_exact(width);
        let start = out.len();
        match self {
            Self::First => out.extend(rows.take(1).flatten()),
            Self::Last => out.extend(rows.last().into_iter().flatten()),
            Self::Mean => {
                let mut sums = vec![0.0_f64; width];
                let count = rows.len() as f64;
                for row in rows {
                    sums.iter_mut()
                        .zip(row)
                        .for_each(|(sum, &x)| *sum += f64::from(x));
                }
                out.extend(sums.into_iter().map(|sum| (sum / count) as f32));
            }
            Self::Highest => {
                out.extend(std::iter::repeat_n(f32::NEG_INFINITY, width));
                for row in rows {
                    let highest = out[start..].iter_mut().zip(row);
                    highest.for_each(|(highest, &x)| *highest = highest.max(x));
                }
            }
        }
        normalise(&mut out[start..]);
    }
}

/// Makes a vector one of length 1; one of length 0 stays.
fn normalise(vector: &mut [f32]) {
    let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if squares > 0.0 {
        let length = squares.sqrt();
        vector
            .iter_mut()
            .for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// The most tokens of a text by `sentence_bert_config.json`, beyond which it is cut, where there is such a file.
pub(super) fn longest_text(directory: &Path) -> Result<Option<usize>> {
    let path = directory.join("sentence_bert_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let object = read_object(&path)?;
    Fields::new(&path, &object).count("max_seq_length", most::CONTEXT)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_pooling_makes_one_vector_of_length_one() {
        let states = [3.0, 0.0, 1.0, 4.0, 2.0, -4.0];
        let pooled = |pooling: Pooling| {
            let mut out = vec![9.0];
            pooling.pool(&states, 2, &mut out);
            out.split_off(1)
        };
        assert_eq!(pooled(Pooling::First), [1.0, 0.0]);
        assert_eq!(pooled(Pooling::Mean), [1.0, 0.0]);
        assert_eq!(pooled(Pooling::Highest), [0.6, 0.8]);
        let root = 20.0_f32.sqrt();
        assert_eq!(pooled(Pooling::Last), [2.0 / root, -4.0 / root]);
    }

    #[test]
    fn modules_say_the_pooling() {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        assert_eq!(Pooling::read(path).unwrap(), Pooling::Mean);
        fs::create_dir(path.join("1_Pooling")).unwrap();
        let modules = |last: &str| {
            let kind = |name: &str| format!("sentence_transformers.models.{name}");
            let modules = json!([
                { "idx": 0, "name": "0", "path": "", "type": kind("Transformer") },
                { "idx": 1, "name": "1", "path": "1_Pooling", "type": kind("Pooling") },
                { "idx": 2, "name": "2", "path": "2", "type": kind(last) },
            ]);
            fs::write(path.join("modules.json"), modules.to_string()).unwrap();
        };
        let pooling = |config: serde_json::Value| {
            fs::write(path.join("1_Pooling/config.json"), config.to_string()).unwrap();
            Pooling::read(path)
        };
        modules("Normalize");
        let last = json!({ "pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true });
        assert_eq!(pooling(last).unwrap(), Pooling::Last);
        let two = json!({ "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true });
        assert!(
            pooling(two)
                .unwrap_err()
                .to_string()
                .contains("another pooling")
        );
        let other = json!({ "pooling_mode_weightedmean_tokens": true });
        assert!(
            pooling(other)
                .unwrap_err()
                .to_string()
                .contains("not built in")
        );
        modules("Dense");
        let message = pooling(json!({})).unwrap_err().to_string();
        assert!(
            message.contains("modules.json: `type`: `Dense` is unknown"),
            "{message}"
        );
    }
}
