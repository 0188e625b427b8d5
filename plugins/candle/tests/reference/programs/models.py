"""Writes tiny models, and what `transformers` computes with them.

usage: models.py OUT_DIRECTORY

For each model a directory: `config.json` and `model.safetensors` as `transformers` writes them, and
`expected.safetensors` with

* decoders: `tokens` [batch, length] i64, `logits` [batch, length, vocabulary], `loss` [1] (the mean
  next-token cross-entropy), and `grad.NAME` for parameters: the gradient of that loss;
* the encoder: `tokens`, `attention_mask` [batch, length] i64, `hidden` [batch, length, hidden] (the last
  hidden state), `embedding` [batch, hidden] (its mean over the tokens of the mask, of length one).

All floats are f32.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file

import tiny

# Of these the gradients of all parameters are kept, of the others those of a few.
ALL_GRADIENTS = {"llama", "qwen3", "gemma3"}
FEW = (
    "layers.0.self_attn.q_proj.weight",
    "layers.0.self_attn.k_proj.bias",
    "layers.1.self_attn.v_proj.weight",
    "layers.1.input_layernorm.weight",
    "model.norm.weight",
    "model.embed_tokens.weight",
)


def bundle(model, directory):
    model.save_pretrained(directory, safe_serialization=True)
    (directory / "generation_config.json").unlink(missing_ok=True)


def decoder(name, build, seed, directory):
    model = tiny.fill(build(), seed)
    bundle(model, directory)
    ids = tiny.tokens(seed + 1)
    logits = model(ids, use_cache=False).logits
    loss = tiny.next_token_loss(logits, ids)
    loss.backward()
    expected = {"tokens": ids, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name
        if name in ALL_GRADIENTS or parameter_name.endswith(FEW):
            expected["grad." + parameter_name] = parameter.grad
    save_file(expected, directory / "expected.safetensors")
    print(f"{name}: loss {loss.item():.6f}, logits up to {logits.abs().max().item():.2f}")


def encoder(seed, directory):
    model = tiny.fill(tiny.bert(), seed)
    bundle(model, directory)
    ids = tiny.tokens(seed + 1, batch=3, length=24)
    lengths = torch.tensor([24, 17, 5])
    mask = (torch.arange(24)[None, :] < lengths[:, None]).long()
    ids = ids * mask
    with torch.no_grad():
        hidden = model(ids, attention_mask=mask).last_hidden_state
    weights = mask[:, :, None].float()
    mean = (hidden * weights).sum(1) / weights.sum(1)
    expected = {
        "tokens": ids,
        "attention_mask": mask,
        "hidden": hidden,
        "embedding": torch.nn.functional.normalize(mean, dim=1),
    }
    save_file(expected, directory / "expected.safetensors")
    print(f"bert: hidden up to {hidden.abs().max().item():.2f}")


def main(out):
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    out = pathlib.Path(out)
    for index, (name, build) in enumerate(tiny.DECODERS.items()):
        decoder(name, build, 1000 + 10 * index, out / name)
    encoder(2000, out / "bert")


if __name__ == "__main__":
    main(*sys.argv[1:])
