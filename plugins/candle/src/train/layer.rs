//! One layer: `x += attention(norm(x))`, `x += mlp(norm(x))`, with the parts that a family has besides.

use candle_core::{Result, Tensor};

use super::held::{Draws, HeldNorm, Linear};
use super::parameter::Parameter;
use crate::architecture::Activation;
use crate::ops::attention::{Attended, Attention, Sight};
use crate::ops::rope::{Direction, Turns};
use crate::ops::{elementwise, gate};

/// The parts of a layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: HeldNorm,
    pub(super) q: Linear,
    pub(super) k: Linear,
    pub(super) v: Linear,
    pub(super) o: Linear,
    /// Norms of each head's queries and keys.
    pub(super) qk_norms: Option<[HeldNorm; 2]>,
    pub(super) mlp_norm: HeldNorm,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
    /// Norms of what attention and feed-forward block give.
    pub(super) post_norms: Option<[HeldNorm; 2]>,
    pub(super) shape: Attention,
    pub(super) activation: Activation,
    /// Whether positions turn as in layers with a window.
    pub(super) is_local: bool,
}

/// What all layers of a batch share.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) sight: Sight,
    pub(super) turns: Turns,
    pub(super) local_turns: Option<Turns>,
    pub(super) draws: Option<Draws>,
}

impl Scene {
    fn turns(&self, layer: &Layer) -> &Turns {
        let local = self.local_turns.as_ref().filter(|_| layer.is_local);
        local.unwrap_or(&self.turns)
    }
}

/// What the way back of a layer reads.
#[derive(Debug)]
pub(super) struct Kept {
    x: Tensor,
    /// Queries and keys before their norms, where they have some.
    plain: Option<[Tensor; 2]>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Attended,
    /// What attention gives before its norm, where it has one.
    attention: Option<Tensor>,
    middle: Tensor,
    gate: Tensor,
    up: Tensor,
    /// What the feed-forward block gives before its norm, where it has one.
    mlp: Option<Tensor>,
}

impl Kept {
    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        let plain = self.plain.iter().flatten();
        let some = [&self.attention, &self.mlp].into_iter().flatten();
        let always = [
            &self.x,
            &self.q,
            &self.k,
            &self.v,
            &self.middle,
            &self.gate,
            &self.up,
        ];
        let attended = [&self.attended.output, &self.attended.log_sums];
        let all = always.into_iter().chain(attended).chain(plain).chain(some);
        all.map(|tensor| tensor.elem_count() as u64 * 4).sum()
    }
}

impl Layer {
    /// The hidden states (tokens, hidden) after the layer, and what the way back reads.
    pub(super) fn forward(
        &self,
        parameters: &[Parameter],
        scene: &Scene,
        x: &Tensor,
    ) -> Result<(Tensor, Kept)> {
        let draws = scene.draws;
        let normed = self.attention_norm.forward(parameters, x)?;
        let mut q = self.q.forward(parameters, &normed, draws)?;
        let mut k = self.k.forward(parameters, &normed, draws)?;
        let v = self.v.forward(parameters, &normed, draws)?;
        drop(normed);
        let mut plain = None;
        if let Some([q_norm, k_norm]) = &self.qk_norms {
            plain = Some([q.clone(), k.clone()]);
            q = self.by_head(q_norm, parameters, &q)?;
            k = self.by_head(k_norm, parameters, &k)?;
        }
        let turns = scene.turns(self);
        let q = turns.turn(&q, Direction::Forward)?;
        let k = turns.turn(&k, Direction::Forward)?;
        let attended = self.shape.forward(&q, &k, &v, &scene.sight)?;
        let mut attention = self.o.forward(parameters, &attended.output, draws)?;
        let mut before = None;
        if let Some([norm, _]) = &self.post_norms {
            let normed = norm.forward(parameters, &attention)?;
            before = Some(std::mem::replace(&mut attention, normed));
        }
        let middle = elementwise::add(x, &attention)?;
        drop(attention);
        let normed = self.mlp_norm.forward(parameters, &middle)?;
        let gate = self.gate.forward(parameters, &normed, draws)?;
        let up = self.up.forward(parameters, &normed, draws)?;
        drop(normed);
        let active = gate::forward(self.activation, &gate, &up)?;
        let mut mlp = self.down.forward(parameters, &active, draws)?;
        drop(active);
        let mut mlp_before = None;
        if let Some([_, norm]) = &self.post_norms {
            let normed = norm.forward(parameters, &mlp)?;
            mlp_before = Some(std::mem::replace(&mut mlp, normed));
        }
        let out = elementwise::add(&middle, &mlp)?;
        let kept = Kept {
            x: x.clone(),
            plain,
            q,
            k,
            v,
            attended,
            attention: before,
            middle,
            gate,
            up,
            mlp: mlp_before,
        };
        Ok((out, kept))
    }

    /// Adds the gradients of what is trained, and answers that of `x` by that of the result, where `wants_input`.
    pub(super) fn backward(
        &self,
        parameters: &mut [Parameter],
        scene: &Scene,
        kept: &Kept,
        gradient: &Tensor,
        wants_input: bool,
    ) -> Result<Option<Tensor>> {
        let to_middle = self.backward_mlp(parameters, scene, kept, gradient)?;
        self.backward_attention(parameters, scene, kept, &to_middle, wants_input)
    }

    /// From the gradient of the result to that of what is between attention and feed-forward block.
    fn backward_mlp(
        &self,
        parameters: &mut [Parameter],
        scene: &Scene,
        kept: &Kept,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let draws = scene.draws;
        let through = match (&self.post_norms, &kept.mlp) {
            (Some([_, norm]), Some(before)) => norm.backward(parameters, before, gradient)?,
            _ => gradient.clone(),
        };
        let active = match self.down.reads_input() {
            true => Some(gate::forward(self.activation, &kept.gate, &kept.up)?),
            false => None,
        };
        let to_active =
            self.down
                .backward(parameters, active.as_ref(), &through, draws, None, true)?;
        drop(active);
        let to_active = wanted(to_active)?;
        let (to_gate, to_up) = gate::backward(self.activation, &kept.gate, &kept.up, &to_active)?;
        drop(to_active);
        let normed = match self.gate.reads_input() || self.up.reads_input() {
            true => Some(self.mlp_norm.forward(parameters, &kept.middle)?),
            false => None,
        };
        let normed = normed.as_ref();
        let sum = self
            .gate
            .backward(parameters, normed, &to_gate, draws, None, true)?;
        let sum = wanted(
            self.up
                .backward(parameters, normed, &to_up, draws, sum, true)?,
        )?;
        let to_middle = self.mlp_norm.backward(parameters, &kept.middle, &sum)?;
        elementwise::add(gradient, &to_middle)
    }

    /// From the gradient of what is between attention and feed-forward block to that of `x`.
    fn backward_attention(
        &self,
        parameters: &mut [Parameter],
        scene: &Scene,
        kept: &Kept,
        gradient: &Tensor,
        wants_input: bool,
    ) -> Result<Option<Tensor>> {
        let draws = scene.draws;
        let through = match (&self.post_norms, &kept.attention) {
            (Some([norm, _]), Some(before)) => norm.backward(parameters, before, gradient)?,
            _ => gradient.clone(),
        };
        let output = Some(&kept.attended.output);
        let to_output = wanted(
            self.o
                .backward(parameters, output, &through, draws, None, true)?,
        )?;
        let [to_q, to_k, to_v] = self.shape.backward(
            &kept.q,
            &kept.k,
            &kept.v,
            &scene.sight,
            &kept.attended,
            &to_output,
        )?;
        let turns = scene.turns(self);
        let mut to_q = turns.turn(&to_q, Direction::Back)?;
        let mut to_k = turns.turn(&to_k, Direction::Back)?;
        if let (Some([q_norm, k_norm]), Some([q, k])) = (&self.qk_norms, &kept.plain) {
            to_q = self.by_head_backward(q_norm, parameters, q, &to_q)?;
            to_k = self.by_head_backward(k_norm, parameters, k, &to_k)?;
        }
        let is_read = [&self.q, &self.k, &self.v]
            .into_iter()
            .any(Linear::reads_input);
        let wants_normed = wants_input || self.attention_norm.weight.is_trained();
        let normed = match is_read {
            true => Some(self.attention_norm.forward(parameters, &kept.x)?),
            false => None,
        };
        let mut sum = None;
        for (linear, gradient) in [(&self.q, &to_q), (&self.k, &to_k), (&self.v, &to_v)] {
            sum = linear.backward(
                parameters,
                normed.as_ref(),
                gradient,
                draws,
                sum,
                wants_normed,
            )?;
        }
        let Some(sum) = sum else {
            return Ok(None);
        };
        let to_x = self.attention_norm.backward(parameters, &kept.x, &sum)?;
        Ok(Some(elementwise::add(gradient, &to_x)?))
    }

    fn by_head(&self, norm: &HeldNorm, parameters: &[Parameter], x: &Tensor) -> Result<Tensor> {
        let heads = x.reshape(((), self.shape.head))?;
        norm.forward(parameters, &heads)?.reshape(x.shape())
    }

    fn by_head_backward(
        &self,
        norm: &HeldNorm,
        parameters: &mut [Parameter],
        x: &Tensor,
        gradient: &Tensor,
    ) -> Result<Tensor> {
        let heads = x.reshape(((), self.shape.head))?;
        let gradient = gradient.reshape(((), self.shape.head))?;
        norm.backward(parameters, &heads, &gradient)?
            .reshape(x.shape())
    }

    /// The linear maps, in the order in which they are used.
    pub(super) fn linears(&self) -> [&Linear; 7] {
        [
            &self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down,
        ]
    }

    fn norms(&self) -> impl Iterator<Item = &HeldNorm> {
        let always = [&self.attention_norm, &self.mlp_norm];
        let some = self.qk_norms.iter().chain(&self.post_norms).flatten();
        always.into_iter().chain(some)
    }

    /// Whether anything of it is trained.
    pub(super) fn is_trained(&self) -> bool {
        self.linears().into_iter().any(Linear::is_trained)
            || self.norms().any(|norm| norm.weight.is_trained())
    }

    /// Bytes of what is not trained.
    pub(super) fn frozen_bytes(&self) -> u64 {
        let linears: u64 = self.linears().into_iter().map(Linear::frozen_bytes).sum();
        linears
            + self
                .norms()
                .map(|norm| norm.weight.frozen_bytes())
                .sum::<u64>()
    }
}

/// A gradient that was asked for.
fn wanted(gradient: Option<Tensor>) -> Result<Tensor> {
    match gradient {
        Some(gradient) => Ok(gradient),
        None => candle_core::bail!("a linear map gave no gradient of its input"),
    }
}
