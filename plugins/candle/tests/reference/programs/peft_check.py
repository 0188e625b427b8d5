"""Loads adapters that Vox exported into PEFT, and writes what the model says with them.

usage: peft_check.py REFERENCE_DIRECTORY

The adapters are the directories in `exported`, as Vox wrote them; their base is the model in `models/llama`. Beside each
comes `expected.safetensors`: `tokens` [batch, length], `logits` [batch, length, vocabulary] and `loss` [1], the mean
next-token cross-entropy. A tensor of an adapter that PEFT has no place for, or one that it misses, ends the program with
an error.
"""

import os
import pathlib
import sys

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny


def check(adapter):
    base = AutoModelForCausalLM.from_pretrained("models/llama", attn_implementation="eager")
    config = PeftConfig.from_pretrained(adapter)
    model = PeftModel.from_pretrained(base, adapter, config=config).eval()
    loaded = get_peft_model_state_dict(model)
    written = load_file(adapter / "adapter_model.safetensors")
    if loaded.keys() != written.keys():
        raise SystemExit(
            f"PEFT's names differ: {sorted(loaded.keys() - written.keys())} are missing from the file, "
            f"{sorted(written.keys() - loaded.keys())} are unknown to it"
        )
    for name, tensor in written.items():
        if not torch.equal(loaded[name], tensor.to(loaded[name].dtype)):
            raise SystemExit(f"PEFT has not loaded {name}")
    ids = tiny.tokens(7001)
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
        with model.disable_adapter():
            apart = (model(ids, use_cache=False).logits - logits).abs().max().item()
    assert apart > 0.01, f"{adapter} changes nothing"
    loss = tiny.next_token_loss(logits, ids)
    expected = {"tokens": ids, "logits": logits, "loss": loss.reshape(1)}
    save_file(expected, adapter / "expected.safetensors")
    print(f"{adapter.name}: {len(loaded)} tensors, loss {loss.item():.6f}, {apart:.3f} from the base")


def main(reference):
    os.chdir(reference)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for adapter in sorted(pathlib.Path("exported").iterdir()):
        check(adapter)


if __name__ == "__main__":
    main(*sys.argv[1:])
