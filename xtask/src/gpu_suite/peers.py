"""The work of the suite by transformers and PyTorch, where they are: one JSON object a line.

python3 peers.py MODEL TEXT cuda|cpu
"""

import json
import sys
import time


def say(**fields):
    print(json.dumps(fields), flush=True)


def main():
    directory, text_file, device = sys.argv[1:4]
    try:
        import torch
        import transformers
    except ImportError as error:
        say(note=f"not here: {error.name}")
        return
    if device == "cuda" and not torch.cuda.is_available():
        say(note="PyTorch sees no GPU")
        return
    transformers.utils.logging.set_verbosity_error()
    say(note=f"transformers {transformers.__version__}, PyTorch {torch.__version__}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)

    def load(dtype):
        model = transformers.AutoModelForCausalLM.from_pretrained(directory, torch_dtype=dtype)
        return model.to(device)

    def wait():
        if device == "cuda":
            torch.cuda.synchronize()

    types = {"f32": torch.float32}
    if device == "cuda":
        types["bf16"] = torch.bfloat16
    for name, dtype in types.items():
        model = load(dtype).eval()
        prompt = tokenizer("The weather in the village was", return_tensors="pt").to(device)
        prompt.pop("token_type_ids", None)

        def generate(tokens):
            with torch.no_grad():
                return model.generate(
                    **prompt, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0
                )

        generate(16)
        wait()
        begin = time.perf_counter()
        generate(1)
        wait()
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        generate(128)
        wait()
        seconds = time.perf_counter() - begin - first
        peer = f"transformers, {name}"
        say(name=f"generate.{name}", peer=peer, value=127 / seconds)
        say(name=f"first-token.{name}", peer=peer, value=1000 * first)
        del model

    # LoRA of rank 8 on queries and values, batches of 4 rows of 128 tokens, as the suite's own.
    text = open(text_file, encoding="utf-8").read()[:200_000]
    tokens = tokenizer(text, return_tensors="pt")["input_ids"][0]
    model = load(torch.float32).train()
    peer = "PyTorch"
    try:
        import peft

        config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, config)
        peer = f"PyTorch with peft {peft.__version__}"
    except ImportError:
        adapt(torch, model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-4)
    steps = 24 if device == "cuda" else 8
    seconds = []
    for step in range(steps):
        at = step * 512 % (len(tokens) - 512)
        batch = tokens[at : at + 512].reshape(4, 128).to(device)
        wait()
        begin = time.perf_counter()
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        wait()
        seconds.append(time.perf_counter() - begin)
    seconds = sorted(seconds[4:])
    say(name="train.lora", peer=peer, value=512 / seconds[len(seconds) // 2])


def adapt(torch, model):
    """Puts adapters into a model, as peft does."""

    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base
            like = dict(device=base.weight.device, dtype=base.weight.dtype)
            self.a = torch.nn.Linear(base.in_features, 8, bias=False, **like)
            self.b = torch.nn.Linear(8, base.out_features, bias=False, **like)
            torch.nn.init.zeros_(self.b.weight)

        def forward(self, x):
            return self.base(x) + 2.0 * self.b(self.a(x))

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        for name in ("q_proj", "v_proj"):
            if hasattr(module, name):
                setattr(module, name, Adapted(getattr(module, name)))


if __name__ == "__main__":
    main()
