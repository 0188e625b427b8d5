"""Loads an adapter that Vox exported into PEFT, and prints what the model says with it.

usage: peft_check.py BUNDLE ADAPTER [TOKENS.json]

One JSON object: `tokens` [batch, length], `logits` [batch, length, vocabulary], `loss` (the mean
next-token cross-entropy), `adapter` (the names and shapes of the tensors that PEFT has loaded). The
tokens are a list of lists of ids of one length; without a file, those of `models/llama`. A tensor of
the adapter that PEFT has no place for, or one that it misses, ends the program with an error.
"""

import json
import pathlib
import sys

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import tiny


def main(bundle, adapter, tokens=None):
    if tokens:
        ids = torch.tensor(json.loads(pathlib.Path(tokens).read_text()))
    else:
        ids = tiny.tokens(1001)
    torch.set_num_threads(1)
    base = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32)
    config = PeftConfig.from_pretrained(adapter)
    model = PeftModel.from_pretrained(base, adapter, config=config).eval()
    loaded = get_peft_model_state_dict(model)
    written = load_file(pathlib.Path(adapter) / "adapter_model.safetensors")
    if loaded.keys() != written.keys():
        raise SystemExit(
            f"PEFT's names differ: {sorted(loaded.keys() - written.keys())} are missing from the file, "
            f"{sorted(written.keys() - loaded.keys())} are unknown to it"
        )
    for name, tensor in written.items():
        if not torch.equal(loaded[name], tensor.to(loaded[name].dtype)):
            raise SystemExit(f"PEFT has not loaded {name}")
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
    answer = {
        "tokens": ids.tolist(),
        "logits": logits.tolist(),
        "loss": tiny.next_token_loss(logits, ids).item(),
        "adapter": {name: list(tensor.shape) for name, tensor in loaded.items()},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
