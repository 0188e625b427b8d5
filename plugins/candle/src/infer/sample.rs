//! Which token comes next.
//!
//! Logits are changed by the penalties first, then divided by the temperature, then restricted by top-k, top-p
//! and min-p, in this order; what is left is drawn from. Log-probabilities are those of the logits as the model
//! gave them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::request::Alternative;
use crate::error::{Error, Result};
use crate::random::Random;

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0: always the most probable token.
    pub temperature: f32,
    /// Only that many of the most probable; 0 for all.
    pub top_k: usize,
    /// Only the most probable ones that have this much probability together; 1 for all, 0 for the first alone.
    pub top_p: f32,
    /// Only those with at least this part of the most probable one's probability; 0 for all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens of the prompt and the answer; 1 for none
    /// (Keskar et al., "CTRL", section 4.1).
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens that were answered; 0 for none.
    pub presence_penalty: f32,
    /// Taken off for each time that a token was answered; 0 for none.
    pub frequency_penalty: f32,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Sampling {
    /// Always the most probable token.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Refuses what has no meaning.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] with the field.
    pub fn check(&self) -> Result<()> {
        let within = |field, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let why = format!("it should be from {low} to {high}, and is {value}");
            Err(Error::request(field, why))
        };
        within("temperature", self.temperature, 0.0, 100.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        within("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
    }
}

/// The token that was chosen for a place.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability, before any sampling; `None` where it was not asked for.
    pub log_probability: Option<f32>,
    /// The most probable tokens with their log-probabilities, the most probable first.
    pub alternatives: Vec<(u32, f32)>,
}

/// Chooses the tokens of one answer. It keeps its memory from token to token.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
    /// Tokens of prompt and answer.
    seen: BTreeSet<u32>,
    /// Tokens of the answer, and how often each came.
    answered: BTreeMap<u32, u32>,
    /// Logits of the place, which the penalties change.
    logits: Vec<f32>,
    /// Tokens that may be chosen, with weights that are not normalised.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler for an answer to these tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for sampling that has no meaning.
    pub fn new(sampling: Sampling, prompt: &[u32], answered: &[u32]) -> Result<Self> {
        sampling.check()?;
        let random = Random::new(sampling.seed, 0);
        let mut sampler = Self {
            sampling,
            random,
            seen: BTreeSet::new(),
            answered: BTreeMap::new(),
            logits: Vec::new(),
            candidates: Vec::new(),
        };
        if sampler.sampling.repetition_penalty != 1.0 {
            sampler.seen.extend(prompt);
        }
        for &token in answered {
            sampler.count(token);
        }
        Ok(sampler)
    }

    /// Chooses the token of place number `position` of the sequence by its logits, and counts it as answered.
    /// `alternatives` is how many tokens come with their log-probabilities; `None` for no log-probabilities.
    ///
    /// The same seed, position and logits give the same token.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] for logits of which none is a number.
    pub fn choose(
        &mut self,
        logits: &[f32],
        position: usize,
        alternatives: Option<usize>,
    ) -> Result<Chosen> {
        self.penalise(logits);
        let token = self.draw(position)?;
        self.count(token);
        let Some(count) = alternatives else {
            return Ok(Chosen {
                token,
                log_probability: None,
                alternatives: Vec::new(),
            });
        };
        let total = log_sum(logits);
        let mut most = most_probable(logits, count);
        for (_, logit) in &mut most {
            *logit -= total;
        }
        Ok(Chosen {
            token,
            log_probability: Some(logits[token as usize] - total),
            alternatives: most,
        })
    }

    /// [`Alternative`]s of what was chosen, with their texts.
    ///
    /// # Errors
    ///
    /// Those of `text`.
    pub fn alternatives(
        chosen: &Chosen,
        mut text: impl FnMut(u32) -> Result<String>,
    ) -> Result<Vec<Alternative>> {
        let all = chosen.alternatives.iter().map(|&(token, log_probability)| {
            Ok(Alternative {
                token,
                text: text(token)?,
                log_probability,
            })
        });
        all.collect()
    }

    fn count(&mut self, token: u32) {
        self.seen.insert(token);
        *self.answered.entry(token).or_default() += 1;
    }

    /// Takes over the logits with the penalties.
    fn penalise(&mut self, logits: &[f32]) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        let Sampling {
            repetition_penalty: repetition,
            presence_penalty: presence,
            frequency_penalty: frequency,
            ..
        } = self.sampling;
        if repetition != 1.0 {
            for &token in &self.seen {
                if let Some(logit) = self.logits.get_mut(token as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / repetition
                    } else {
                        *logit * repetition
                    };
                }
            }
        }
        if presence != 0.0 || frequency != 0.0 {
            for (&token, &times) in &self.answered {
                if let Some(logit) = self.logits.get_mut(token as usize) {
                    *logit -= presence + frequency * times as f32;
                }
            }
        }
    }

    fn draw(&mut self, position: usize) -> Result<u32> {
        let (best, highest) = highest(&self.logits).ok_or_else(|| Error::Compute {
            doing: format!("choose the token of place {position}"),
            source: candle_core::Error::Msg("the model gives no logit that is a number".to_owned()),
        })?;
        if self.sampling.temperature == 0.0 {
            return Ok(best);
        }
        let inverse = 1.0 / self.sampling.temperature;
        let weights = self
            .logits
            .iter()
            .map(|&logit| ((logit - highest) * inverse).exp());
        let numbered = (0_u32..).zip(weights);
        self.candidates.clear();
        // Neither a NaN nor what is impossible is drawn.
        self.candidates
            .extend(numbered.filter(|&(_, weight)| weight > 0.0));
        self.restrict();
        let total: f64 = self
            .candidates
            .iter()
            .map(|&(_, weight)| f64::from(weight))
            .sum();
        let mut left = self.random.uniform(position as u64) * total;
        for &(token, weight) in &self.candidates {
            left -= f64::from(weight);
            if left < 0.0 {
                return Ok(token);
            }
        }
        // By rounding alone: the last of them.
        Ok(self.candidates.last().map_or(best, |&(token, _)| token))
    }

    /// Leaves the candidates that top-k, top-p and min-p leave.
    fn restrict(&mut self) {
        let Sampling {
            top_k,
            top_p,
            min_p,
            ..
        } = self.sampling;
        let candidates = &mut self.candidates;
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, more_probable);
            candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            keep_most(candidates, f64::from(top_p));
        }
        if min_p > 0.0 {
            // The weight of the most probable token is 1.
            candidates.retain(|&(_, weight)| weight >= min_p);
        }
        if (top_k > 0 || top_p < 1.0) && !candidates.is_empty() {
            candidates.sort_unstable_by(more_probable);
        }
    }
}

/// The fewest of the most probable candidates that have this part of the probability.
fn keep_most(candidates: &mut Vec<(u32, f32)>, part: f64) {
    let total: f64 = candidates
        .iter()
        .map(|&(_, weight)| f64::from(weight))
        .sum();
    // Those below this have together less than what may be left out, so none of them is among those that
    // stay; sorting the rest is quick.
    let least = (1.0 - part) * total / candidates.len() as f64;
    candidates.retain(|&(_, weight)| f64::from(weight) >= least);
    candidates.sort_unstable_by(more_probable);
    let mut sum = 0.0;
    let enough = candidates.iter().position(|&(_, weight)| {
        sum += f64::from(weight);
        sum >= part * total
    });
    if let Some(last) = enough {
        candidates.truncate(last + 1);
    }
}

/// The order from the most probable on; equals by their number.
fn more_probable(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The highest logit that is a number, and its first token.
fn highest(logits: &[f32]) -> Option<(u32, f32)> {
    let numbered = (0_u32..).zip(logits.iter().copied());
    let found = numbered.fold((0, f32::NEG_INFINITY), |best, at| {
        if at.1 > best.1 { at } else { best }
    });
    found.1.is_finite().then_some(found)
}

/// The `count` highest logits with their tokens, the highest first.
fn most_probable(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut most: Vec<(u32, f32)> = Vec::with_capacity(count.min(logits.len()) + 1);
    if count == 0 {
        return most;
    }
    for at in (0_u32..).zip(logits.iter().copied()) {
        let is_full = most.len() == count;
        if at.1.is_nan() || (is_full && most.last().is_some_and(|last| at.1 <= last.1)) {
            continue;
        }
        let place = most.partition_point(|other| other.1 >= at.1);
        most.insert(place, at);
        most.truncate(count);
    }
    most
}

/// The logarithm of the sum of the exponentials.
fn log_sum(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from((logit - highest).exp()))
        .sum();
    (f64::from(highest) + sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of the tokens comes in 20 000 places.
    fn frequencies(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for position in 0..20_000 {
            let mut sampler = Sampler::new(sampling.clone(), &[], &[]).unwrap();
            let chosen = sampler.choose(logits, position, None).unwrap();
            counts[chosen.token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(found: &[f64], wanted: &[f64]) {
        for (found, wanted) in found.iter().zip(wanted) {
            // Five standard deviations.
            let bound = 5.0 * (wanted * (1.0 - wanted) / 20_000.0).sqrt();
            assert!((found - wanted).abs() <= bound, "{found} {wanted}");
        }
    }

    fn logs(probabilities: &[f32]) -> Vec<f32> {
        // An offset changes no probability.
        probabilities.iter().map(|p| p.ln() + 3.0).collect()
    }

    const FIVE: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    fn warm() -> Sampling {
        Sampling {
            temperature: 1.0,
            ..Sampling::default()
        }
    }

    #[test]
    fn tokens_come_as_often_as_their_probabilities_say() {
        let found = frequencies(&logs(&FIVE), &warm());
        close(&found, &FIVE.map(f64::from));
    }

    #[test]
    fn a_temperature_sharpens_or_flattens_the_probabilities() {
        let sampling = Sampling {
            temperature: 0.5,
            ..warm()
        };
        let squares = FIVE.map(|p| f64::from(p * p));
        let total: f64 = squares.iter().sum();
        close(
            &frequencies(&logs(&FIVE), &sampling),
            &squares.map(|p| p / total),
        );
    }

    #[test]
    fn restrictions_leave_the_most_probable_tokens() {
        let left = |sampling: &Sampling, wanted: [f64; 5]| {
            close(&frequencies(&logs(&FIVE), sampling), &wanted);
        };
        let top_k = Sampling { top_k: 2, ..warm() };
        left(&top_k, [0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0]);
        // 0.4 + 0.25 is too little for 0.7, so the third comes in.
        let top_p = Sampling {
            top_p: 0.7,
            ..warm()
        };
        left(&top_p, [0.0, 0.4 / 0.85, 0.0, 0.25 / 0.85, 0.2 / 0.85]);
        let min_p = Sampling {
            min_p: 0.3,
            ..warm()
        };
        left(&min_p, [0.0, 0.4 / 0.85, 0.0, 0.25 / 0.85, 0.2 / 0.85]);
        // Of the three that top-k leaves, two have 0.7 of what is left.
        let both = Sampling {
            top_k: 3,
            top_p: 0.7,
            ..warm()
        };
        left(&both, [0.0, 0.4 / 0.65, 0.0, 0.25 / 0.65, 0.0]);
    }

    #[test]
    fn where_no_probability_is_asked_for_the_most_probable_token_comes() {
        let sampling = Sampling {
            top_p: 0.0,
            ..warm()
        };
        for logits in [logs(&FIVE), vec![-1.0, 2.0, 2.0, 0.5]] {
            for position in 0..50 {
                let mut sampler = Sampler::new(sampling.clone(), &[], &[]).unwrap();
                let chosen = sampler.choose(&logits, position, None).unwrap();
                assert_eq!(chosen.token, 1);
            }
        }
    }

    #[test]
    fn without_temperature_the_first_of_the_most_probable_comes() {
        let mut sampler = Sampler::new(Sampling::default(), &[], &[]).unwrap();
        let chosen = sampler.choose(&[1.0, 3.0, 3.0, -1.0], 0, None).unwrap();
        assert_eq!(chosen.token, 1);
    }

    #[test]
    fn penalties_change_the_logits_of_tokens_that_were_there() {
        let penal = |sampling: Sampling, prompt: &[u32], answered: &[u32]| {
            let mut sampler = Sampler::new(sampling, prompt, answered).unwrap();
            sampler.penalise(&[2.0, -2.0, 1.0, 1.0]);
            sampler.logits
        };
        let repetition = Sampling {
            repetition_penalty: 2.0,
            ..warm()
        };
        assert_eq!(penal(repetition, &[0, 1], &[2, 2]), [1.0, -4.0, 0.5, 1.0]);
        let others = Sampling {
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            ..warm()
        };
        assert_eq!(penal(others, &[0], &[2, 2, 3]), [2.0, -2.0, 0.0, 0.25]);
    }

    #[test]
    fn penalties_count_from_token_to_token_and_without_a_temperature() {
        let chosen = |sampling: Sampling, prompt: &[u32]| -> Vec<u32> {
            let mut sampler = Sampler::new(sampling, prompt, &[]).unwrap();
            let choose = |at| sampler.choose(&[2.0, 1.5, 0.25], at, None).unwrap().token;
            (0..4).map(choose).collect()
        };
        let repetition = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::default()
        };
        // 1 against 1.5 and 0.25, since the prompt has the first; then against 0.75 and 0.25.
        assert_eq!(chosen(repetition, &[0]), [1, 0, 0, 0]);
        let presence = Sampling {
            presence_penalty: 1.2,
            ..Sampling::default()
        };
        // 2; 0.8 against 1.5; then 0.8 against 0.3 and 0.25, however often the first came.
        assert_eq!(chosen(presence, &[]), [0, 1, 0, 0]);
        let frequency = Sampling {
            frequency_penalty: 1.0,
            ..Sampling::default()
        };
        // 2; 1 against 1.5; 1 against 0.5 and 0.25; 0 against 0.5 and 0.25.
        assert_eq!(chosen(frequency, &[]), [0, 1, 0, 1]);
    }

    #[test]
    fn log_probabilities_are_those_before_sampling() {
        let sampling = Sampling {
            top_k: 1,
            temperature: 5.0,
            repetition_penalty: 50.0,
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(sampling, &[1], &[]).unwrap();
        let chosen = sampler.choose(&logs(&FIVE), 0, Some(3)).unwrap();
        assert_eq!(chosen.token, 3, "the penalty excludes token 1");
        assert!((chosen.log_probability.unwrap() - 0.25_f32.ln()).abs() < 1e-6);
        let tokens: Vec<u32> = chosen.alternatives.iter().map(|at| at.0).collect();
        assert_eq!(tokens, [1, 3, 4]);
        assert!((chosen.alternatives[0].1 - 0.4_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_seed_and_a_position_give_one_token() {
        let sampling = Sampling { seed: 5, ..warm() };
        let tokens = |sampling: &Sampling, from: usize| -> Vec<u32> {
            let mut sampler = Sampler::new(sampling.clone(), &[], &[]).unwrap();
            let choose = |at| sampler.choose(&logs(&FIVE), at, None).unwrap().token;
            (from..40).map(choose).collect()
        };
        assert_eq!(tokens(&sampling, 10), tokens(&sampling, 0)[10..]);
        let other = Sampling { seed: 6, ..warm() };
        assert_ne!(tokens(&sampling, 0), tokens(&other, 0));
    }

    #[test]
    fn logits_that_are_no_numbers_are_never_chosen() {
        let mut sampler = Sampler::new(warm(), &[], &[]).unwrap();
        let logits = [f32::NAN, 0.0, f32::NEG_INFINITY];
        for position in 0..50 {
            assert_eq!(sampler.choose(&logits, position, None).unwrap().token, 1);
        }
        let error = sampler.choose(&[f32::NAN; 3], 7, None).unwrap_err();
        assert!(error.to_string().contains("place 7"), "{error}");
    }

    #[test]
    fn sampling_without_meaning_is_refused_by_name() {
        for (sampling, field) in [
            (
                Sampling {
                    temperature: -1.0,
                    ..warm()
                },
                "`temperature`",
            ),
            (
                Sampling {
                    temperature: f32::NAN,
                    ..warm()
                },
                "`temperature`",
            ),
            (
                Sampling {
                    top_p: 1.5,
                    ..warm()
                },
                "`top_p`",
            ),
            (
                Sampling {
                    min_p: 1.5,
                    ..warm()
                },
                "`min_p`",
            ),
            (
                Sampling {
                    repetition_penalty: 0.0,
                    ..warm()
                },
                "`repetition_penalty`",
            ),
        ] {
            let message = Sampler::new(sampling, &[], &[]).unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
        }
    }
}
