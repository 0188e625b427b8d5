"""Writes how PEFT trains an adapter of SmolLM2, at f32.

usage: smollm2_lora.py OUT_DIRECTORY BUNDLE

`smollm2/lora` is the adapter before the first step, in PEFT's layout: A is random, B is zero.
`smollm2/lora/train.json` holds the settings, the ids of each step's one sequence (the text of
`perplexity.txt`, window by window), and of each step the loss before it and the norm of the gradients
before they are clipped.
"""

import json
import pathlib
import sys

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import tiny

NAME = "smollm2-135m-instruct"
STEPS, LENGTH = 50, 48
RATE, CLIP = 1e-3, 1.0
ADAMW = dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


def main(out, bundle):
    out, bundle = pathlib.Path(out) / "smollm2", pathlib.Path(bundle)
    torch.manual_seed(6000)
    base = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32)
    # PEFT writes down where the base came from.
    base.name_or_path = NAME
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config)
    model.save_pretrained(out / "lora")
    (out / "lora" / "README.md").unlink(missing_ok=True)

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    text = (out / "perplexity.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = [ids[step * LENGTH : (step + 1) * LENGTH] for step in range(STEPS)]

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, foreach=False, **ADAMW)
    losses, norms = [], []
    for window in windows:
        batch = torch.tensor([window])
        loss = tiny.next_token_loss(model(batch, use_cache=False).logits, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, CLIP).item())
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        print(f"loss {losses[-1]:.4f}, norm {norms[-1]:.3f}", flush=True)
    settings = {
        "optimizer": "AdamW, one group of all parameters that are trained",
        "beta1": ADAMW["betas"][0],
        "beta2": ADAMW["betas"][1],
        "epsilon": ADAMW["eps"],
        "weight_decay": ADAMW["weight_decay"],
        "clip_norm": CLIP,
        "learning_rate": RATE,
    }
    curve = {"settings": settings, "losses": losses, "gradient_norms": norms, "batches": windows}
    (out / "lora" / "train.json").write_text(json.dumps(curve) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
