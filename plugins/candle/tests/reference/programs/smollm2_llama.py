"""Writes how llama.cpp continues prompts with SmolLM2, and how well it predicts a text, in each format.

usage: smollm2_llama.py OUT_DIRECTORY BUNDLE GGUF

The model in the GGUF file is that of the bundle, whose weights are its blocks of Q4_1 made f32 again.
llama.cpp's own quantiser makes f32 of it, and of that each other format.

`smollm2/llama.json` holds `version` and for each format

* `perplexity`, and `windows` with the negative log-likelihoods, as in `perplexity.json`;
* `greedy`: of each prompt in `greedy.json`, in that order, the ids that follow, each with the largest logit,
  and the gaps between the largest two;
* `types`: how each kind of matrix is held, by layer; one word where all layers are alike;
* `blocks`: of some tensors, by their names in the bundle, the type and the FNV-1a hash (64 bits) of the
  bytes of their first `rows` rows.

The ids of prompts and text are those of the bundle's tokenizer. Keys and values are held in half precision, but with
f32 weights in f32.
"""

import ctypes
import json
import math
import pathlib
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
from tokenizers import Tokenizer

TOKENS = 64
WINDOW = 512
FORMATS = {
    "f32": llama_cpp.LLAMA_FTYPE_ALL_F32,
    "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}
ROWS = 16
HASHED = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
    "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
    "blk.4.ffn_down.weight": "model.layers.4.mlp.down_proj.weight",
    "blk.4.attn_v.weight": "model.layers.4.self_attn.v_proj.weight",
}


@llama_cpp.llama_log_callback
def silent(level, text, user_data):
    pass


def quantise(source, to, ftype):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = ftype
    parameters.allow_requantize = True
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(to).encode(), ctypes.byref(parameters)
    )
    assert status == 0, to


class Model:
    """A model that computes one sequence at a time."""

    def __init__(self, path, is_plain):
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        assert self.model, path
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = WINDOW
        if is_plain:
            parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        assert self.context, path
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(WINDOW, 0, 1)
        self.length = 0

    def forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        self.length = 0

    def logits(self, ids):
        """Of each token that is added to the sequence."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at] = token
            batch.pos[at] = self.length + at
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = 0
            batch.logits[at] = 1
        assert llama_cpp.llama_decode(self.context, batch) == 0
        self.length += len(ids)
        size = len(ids) * self.vocabulary
        address = ctypes.cast(
            llama_cpp.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float * size)
        )
        return np.frombuffer(address.contents, np.float32).reshape(len(ids), -1).astype(np.float64)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def perplexity(model, ids):
    windows = []
    for start in range(0, len(ids) - 1, WINDOW):
        window = ids[start : start + WINDOW]
        if len(window) < 2:
            break
        model.forget()
        logits = model.logits(window)[:-1]
        highest = logits.max(axis=1)
        totals = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
        chosen = logits[np.arange(len(logits)), window[1:]]
        windows.append((totals - chosen).sum().item())
    return math.exp(sum(windows) / (len(ids) - len(windows))), windows


def greedy(model, prompts):
    entries = []
    for prompt in prompts:
        model.forget()
        step, made, gaps = prompt["prompt_ids"], [], []
        for _ in range(TOKENS):
            logits = model.logits(step)[-1]
            second, first = np.argpartition(logits, -2)[-2:]
            if logits[second] > logits[first]:
                first, second = second, first
            made.append(first.item())
            gaps.append(round((logits[first] - logits[second]).item(), 5))
            step = made[-1:]
        entries.append({"ids": made, "gaps": gaps})
    return entries


def fnv(data):
    hashed = 0xCBF29CE484222325
    for byte in data:
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return f"{hashed:016x}"


def contents(path):
    """The types of all matrices, and the hashes of some."""
    types, blocks = {}, {}
    for tensor in gguf.GGUFReader(path).tensors:
        if len(tensor.shape) < 2:
            continue
        kind = tensor.name.removesuffix(".weight").split(".")
        types.setdefault(kind[-1], []).append(tensor.tensor_type.name)
        if tensor.name in HASHED:
            rows = np.ascontiguousarray(tensor.data[:ROWS]).tobytes()
            blocks[HASHED[tensor.name]] = {
                "type": tensor.tensor_type.name, "rows": ROWS, "fnv1a": fnv(rows)
            }
    types = {kind: all[0] if len(set(all)) == 1 else all for kind, all in types.items()}
    return types, blocks


def main(out, bundle, source):
    out = pathlib.Path(out) / "smollm2"
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    tokenizer = Tokenizer.from_file(str(pathlib.Path(bundle) / "tokenizer.json"))
    text = (out / "perplexity.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    prompts = json.loads((out / "greedy.json").read_text())
    formats = {}
    with tempfile.TemporaryDirectory() as directory:
        plain = pathlib.Path(directory) / "f32.gguf"
        for name, ftype in FORMATS.items():
            path = pathlib.Path(directory) / f"{name}.gguf"
            quantise(source if path == plain else plain, path, ftype)
            model = Model(path, name == "f32")
            measured, windows = perplexity(model, ids)
            types, blocks = contents(path)
            formats[name] = {
                "perplexity": measured,
                "windows": windows,
                "types": types,
                "blocks": blocks,
                "greedy": greedy(model, prompts),
            }
            model.close()
            if path != plain:
                path.unlink()
            print(f"{name}: perplexity {measured:.4f}", flush=True)
    version = f"llama-cpp-python {llama_cpp.__version__}"
    entries = ",\n".join(f"{json.dumps(name)}: {json.dumps(of)}" for name, of in formats.items())
    (out / "llama.json").write_text(f'{{"version": {json.dumps(version)}, "formats": {{\n{entries}\n}}}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
