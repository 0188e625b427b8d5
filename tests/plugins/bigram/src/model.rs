//! The model: which token follows which, as logits, and how they are learnt.
//!
//! The logits of what follows token `t` are row `t` of `bigram.weight` plus `bigram.bias`. The loss is the
//! cross-entropy of their softmax, the optimizer AdamW (Loshchilov and Hutter 2019).
//!
//! What must stay true: one thread adds everything up, in the order of the tokens, and nothing is remembered but
//! the numbers of a [`Parameter`], so that the same calls give the same bytes.

use vox_plugin::ml_backend::{AdamW, Applied, Statistics, Update};

/// A tensor that is trained, with all that belongs to it, row by row.
pub struct Parameter {
    /// Its name in files.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What it is.
    pub value: Vec<f32>,
    /// The gradient of the sum of the losses since the last step.
    pub gradient: Vec<f32>,
    /// The mean of its gradients, as AdamW keeps it.
    pub first: Vec<f32>,
    /// The mean of their squares.
    pub second: Vec<f32>,
}

/// A bigram model.
pub struct Bigram {
    /// What is trained: the weight of shape (vocabulary, vocabulary), then the bias.
    pub parameters: [Parameter; 2],
    /// Of the token that is looked at, for each that could follow: its logit, then its part of the softmax.
    scratch: Vec<f32>,
}

impl Parameter {
    fn new(name: &'static str, shape: Vec<u64>, value: Vec<f32>) -> Self {
        let nothing = vec![0.0; value.len()];
        Self {
            name,
            shape,
            value,
            gradient: nothing.clone(),
            first: nothing.clone(),
            second: nothing,
        }
    }
}

impl Bigram {
    /// A model with weights that are random and follow from the seed.
    pub fn random(vocabulary: u32, seed: u64) -> Self {
        let side = u64::from(vocabulary);
        let weight = (0..side * side).map(|place| beginning(seed, place));
        Self {
            parameters: [
                Parameter::new("bigram.weight", vec![side, side], weight.collect()),
                Parameter::new("bigram.bias", vec![side], vec![0.0; vocabulary as usize]),
            ],
            scratch: vec![0.0; vocabulary as usize],
        }
    }

    /// Number of weights.
    pub fn size(&self) -> u64 {
        let sizes = self.parameters.iter();
        sizes.map(|parameter| parameter.value.len() as u64).sum()
    }

    /// The loss of a batch, whose gradients are added to those that there are. Tokens and targets must be of the
    /// vocabulary, targets also -1.
    pub fn learn(&mut self, tokens: &[u32], targets: &[i32]) -> Statistics {
        self.pass(tokens, targets, true)
    }

    /// The loss of a batch.
    pub fn evaluate(&mut self, tokens: &[u32], targets: &[i32]) -> Statistics {
        self.pass(tokens, targets, false)
    }

    fn pass(&mut self, tokens: &[u32], targets: &[i32], learns: bool) -> Statistics {
        let Self {
            parameters: [weight, bias],
            scratch,
        } = self;
        let mut statistics = Statistics {
            loss: 0.0,
            targets: 0,
        };
        for (&token, &target) in tokens.iter().zip(targets) {
            // -1: nothing is to be foretold here.
            let Ok(target) = usize::try_from(target) else {
                continue;
            };
            let begin = token as usize * scratch.len();
            let row = begin..begin + scratch.len();
            let logits = weight.value[row.clone()].iter().zip(&bias.value);
            for (logit, (weight, bias)) in scratch.iter_mut().zip(logits) {
                *logit = weight + bias;
            }
            // Taken off all of them, so that no exponential is too large.
            let largest = scratch.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let wanted = scratch[target];
            let mut sum = 0.0_f64;
            for logit in scratch.iter_mut() {
                *logit = (*logit - largest).exp();
                sum += f64::from(*logit);
            }
            statistics.loss += sum.ln() + f64::from(largest - wanted);
            statistics.targets += 1;
            if !learns {
                continue;
            }
            // The gradient of a logit: its probability, less 1 for the target's.
            let gradients = weight.gradient[row].iter_mut().zip(&mut bias.gradient);
            for (part, (weight, bias)) in scratch.iter().zip(gradients) {
                let probability = (f64::from(*part) / sum) as f32;
                *weight += probability;
                *bias += probability;
            }
            weight.gradient[begin + target] -= 1.0;
            bias.gradient[target] -= 1.0;
        }
        statistics
    }

    /// Applies the gradients to the weights, and sets them to nothing. Where their norm is not finite the weights
    /// stay as they are.
    pub fn apply(&mut self, optimizer: &AdamW, update: &Update) -> Applied {
        let gradients = self.parameters.iter().flat_map(|one| &one.gradient);
        let squares: f64 = gradients.map(|number| f64::from(*number).powi(2)).sum();
        let gradient_norm = squares.sqrt() * update.scale.abs();
        if gradient_norm.is_finite() {
            // As `torch.nn.utils.clip_grad_norm_`.
            let clip = update
                .clip
                .map_or(1.0, |most| (most / (gradient_norm + 1e-6)).min(1.0));
            for parameter in &mut self.parameters {
                step(parameter, optimizer, update, (update.scale * clip) as f32);
            }
        }
        self.forget_gradients();
        Applied { gradient_norm }
    }

    /// Sets all gradients to nothing.
    pub fn forget_gradients(&mut self) {
        for parameter in &mut self.parameters {
            parameter.gradient.fill(0.0);
        }
    }
}

/// A step of AdamW with the gradient times `scale`. All that it knows of the steps before are the two moments.
fn step(parameter: &mut Parameter, optimizer: &AdamW, update: &Update, scale: f32) {
    let steps = i32::try_from(update.step.max(1)).unwrap_or(i32::MAX);
    let unbiased = |beta: f64| 1.0 - beta.powi(steps);
    // Matrices decay, biases do not.
    let decay = match parameter.shape.len() {
        1 => 0.0,
        _ => optimizer.weight_decay,
    };
    let keep = (1.0 - update.learning_rate * decay) as f32;
    let rate = (update.learning_rate / unbiased(optimizer.beta1)) as f32;
    let root = unbiased(optimizer.beta2).sqrt() as f32;
    let (beta1, beta2) = (optimizer.beta1 as f32, optimizer.beta2 as f32);
    let epsilon = optimizer.epsilon as f32;
    let moments = parameter.first.iter_mut().zip(&mut parameter.second);
    let numbers = parameter.value.iter_mut().zip(&parameter.gradient);
    for ((value, gradient), (first, second)) in numbers.zip(moments) {
        let gradient = gradient * scale;
        *first = *first * beta1 + gradient * (1.0 - beta1);
        *second = *second * beta2 + gradient * gradient * (1.0 - beta2);
        *value = *value * keep - rate * *first / (second.sqrt() / root + epsilon);
    }
}

// ANCHOR: random
/// What a weight begins with, between -0.02 and 0.02: a function of the seed and its place alone, so that nothing
/// hangs on what was drawn before it (SplitMix64 of Steele, Lea and Flood 2014, asked at a place).
fn beginning(seed: u64, place: u64) -> f32 {
    let step = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut word = seed.wrapping_add(step);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^= word >> 31;
    let unit = (word >> 40) as f32 / (1_u32 << 24) as f32;
    (unit - 0.5) * 0.04
}
// ANCHOR_END: random
