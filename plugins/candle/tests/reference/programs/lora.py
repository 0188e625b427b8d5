"""Writes adapters as PEFT makes them, and what it computes and how it trains with them.

usage: lora.py REFERENCE_DIRECTORY

The base is the model in `models/llama`. For each adapter a directory in `lora`, with
`adapter_config.json` and `adapter_model.safetensors` as PEFT writes them (neither A nor B is zero) and
`expected.safetensors`: `tokens`, `logits`, `loss` [1], `grad.NAME` for every A and B by the name that it
has in the adapter's file, and `merged.NAME`, some weights of the base with the adapter merged into it.

`lora/train.json` and `lora/train.safetensors` are two trainings of the same kind, one of the adapter `qv`
and one of all weights of the base: AdamW, the norm of all gradients clipped, the learning rate of each
step listed. The tensors are `batches` [steps, batch, length] i64 (the full training takes the first
ones), and `lora.NAME` and `full.NAME`, what some of the weights are at the end.
"""

import json
import os
import pathlib
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

import tiny

ADAPTERS = {
    "qv": dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]),
    "all-linear-rslora": dict(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True),
}
MERGED = ("0.self_attn.q_proj.weight", "1.self_attn.v_proj.weight", "1.mlp.down_proj.weight")
ADAMW = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
CLIP = 1.0
WARM_UP = 5
TRAININGS = {"lora": dict(steps=50, peak=5e-3), "full": dict(steps=20, peak=1e-3)}
DISTINCT = 5


def base():
    return AutoModelForCausalLM.from_pretrained("models/llama", attn_implementation="eager")


def stored(name):
    """A parameter's name in the adapter's file."""
    return name.replace(".default.", ".")


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapter(name, settings, seed, directory):
    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **settings)
    model = get_peft_model(base(), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    ids = tiny.tokens(seed + 1)
    logits = model(ids, use_cache=False).logits
    loss = tiny.next_token_loss(logits, ids)
    loss.backward()
    expected = {"tokens": ids, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for parameter_name, parameter in trainable(model).items():
        assert parameter.grad.abs().max() > 0, parameter_name
        expected["grad." + stored(parameter_name)] = parameter.grad
    plain = model.merge_and_unload()
    for weight_name, weight in plain.state_dict().items():
        if weight_name.endswith(MERGED):
            expected["merged." + weight_name] = weight.clone()
    save_file(expected, directory / "expected.safetensors")
    print(f"{name}: loss {loss.item():.6f}")


def batches(steps):
    """A few batches again and again, each a short pattern repeated, so that there is much to learn."""
    patterns = tiny.tokens(3000, batch=2 * DISTINCT, length=8).repeat(1, 4)
    return patterns.reshape(DISTINCT, 2, 32).repeat(-(-steps // DISTINCT), 1, 1)[:steps]


def train(model, data, steps, peak):
    parameters = list(trainable(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=peak, foreach=False, **ADAMW)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARM_UP, steps)
    curve = {"learning_rates": [], "losses": [], "gradient_norms": []}
    for ids in data[:steps]:
        loss = tiny.next_token_loss(model(ids, use_cache=False).logits, ids)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        curve["learning_rates"].append(schedule.get_last_lr()[0])
        curve["losses"].append(loss.item())
        curve["gradient_norms"].append(norm.item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return curve


def trainings(directory):
    data = batches(max(training["steps"] for training in TRAININGS.values()))
    tensors, curves = {"batches": data}, {}
    for name, training in TRAININGS.items():
        model = base()
        if name == "lora":
            model = PeftModel.from_pretrained(model, "lora/qv", is_trainable=True)
        curve = train(model.train(), data, **training)
        curves[name] = {**training, **curve}
        for parameter_name, parameter in trainable(model).items():
            if name == "lora" or parameter_name.endswith((*MERGED, "model.norm.weight")):
                tensors[f"{name}.{stored(parameter_name)}"] = parameter.detach()
        print(f"{name}: loss from {curve['losses'][0]:.4f} to {curve['losses'][-1]:.4f}")
    settings = {
        "optimizer": "AdamW, one group of all parameters that are trained",
        "beta1": ADAMW["betas"][0],
        "beta2": ADAMW["betas"][1],
        "epsilon": ADAMW["eps"],
        "weight_decay": ADAMW["weight_decay"],
        "clip_norm": CLIP,
        "warm_up": WARM_UP,
        "schedule": "transformers.get_cosine_schedule_with_warmup, from nothing at the first step",
    }
    text = json.dumps({"settings": settings, **curves}, indent=1)
    (directory / "train.json").write_text(text + "\n")
    save_file(tensors, directory / "train.safetensors")


def main(reference):
    # PEFT writes down where the base came from: as it is called from here.
    os.chdir(reference)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    out = pathlib.Path("lora")
    for index, (name, settings) in enumerate(ADAPTERS.items()):
        adapter(name, settings, 4000 + 10 * index, out / name)
    trainings(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
