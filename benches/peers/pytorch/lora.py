"""Trains with PyTorch and PEFT as it is told, for `cargo xtask bench ml.lora`.

Each line of standard input is a JSON object with one member, and is answered by one, as `candle-in-process`
does: `load` loads a bundle and puts an adapter beside `q_proj` and `v_proj`; `step` is one step of AdamW.
`seconds` is how long that took.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()


def load(bundle, threads, rank, **_):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # One kernel for all tensors is the fastest AdamW that PyTorch has here.
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True)
    return model, parameters, optimizer


def step(model, parameters, optimizer, rows, columns, tokens, targets, learning_rate, scale, clip, **_):
    tokens = torch.tensor(tokens).reshape(rows, columns)
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.tensor(targets), ignore_index=-1, reduction="sum"
    )
    (loss * scale).backward()
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def main():
    state = None
    for line in sys.stdin:
        [(command, arguments)] = json.loads(line).items()
        answer = {}
        begin = time.perf_counter()
        if command == "load":
            state = load(**arguments)
        else:
            answer["loss"] = step(*state, **arguments)
        answer["seconds"] = time.perf_counter() - begin
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
