"""Small but complete GGUF models, and the digests of the tensors that they stand for; the same
digests for a real model.

usage: models.py OUT_DIRECTORY REAL_MODEL.gguf
"""

import hashlib
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

import vocabularies

WIDTH = 32
HIDDEN = 64
HEADS = 4
KEY_HEADS = 2

NORMS = ["input_layernorm", "post_attention_layernorm"]
FOUR_NORMS = NORMS + ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
HEAD_NORMS = ["self_attn.q_norm", "self_attn.k_norm"]
BIASED = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]

# Name, architecture, head size, norms, whether the head is tied, biases, type of the matrices.
MODELS = [
    ("llama", gguf.MODEL_ARCH.LLAMA, 8, NORMS, False, [], T.Q8_0),
    ("llama-tied", gguf.MODEL_ARCH.LLAMA, 8, NORMS, True, BIASED, T.Q4_1),
    ("qwen2", gguf.MODEL_ARCH.QWEN2, 8, NORMS, True, BIASED, T.Q5_0),
    ("qwen3", gguf.MODEL_ARCH.QWEN3, 16, NORMS + HEAD_NORMS, True, [], T.Q4_0),
    ("gemma2", gguf.MODEL_ARCH.GEMMA2, 16, FOUR_NORMS, True, [], T.Q8_0),
    ("gemma3", gguf.MODEL_ARCH.GEMMA3, 16, FOUR_NORMS + HEAD_NORMS, True, [], T.Q8_0),
]


def permute(weights, heads):
    """What llama.cpp's `LlamaModel.permute` does to the rows of queries and keys."""
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)


def reverse_permute(weights, heads):
    """What Transformers' `LlamaTensorProcessor._reverse_permute_weights` does."""
    dim = weights.shape[0] // heads // 2
    w = weights.reshape(heads, dim, 2, *weights.shape[1:])
    return w.swapaxes(2, 1).reshape(weights.shape)


def heads_of(name):
    if ".q_proj." in name:
        return HEADS
    if ".k_proj." in name:
        return KEY_HEADS
    return None


def shapes(layers, head, norms, tied, biased, vocabulary):
    yield "model.embed_tokens.weight", (vocabulary, WIDTH)
    yield "model.norm.weight", (WIDTH,)
    if not tied:
        yield "lm_head.weight", (vocabulary, WIDTH)
    for layer in range(layers):
        matrices = {
            "self_attn.q_proj": (HEADS * head, WIDTH),
            "self_attn.k_proj": (KEY_HEADS * head, WIDTH),
            "self_attn.v_proj": (KEY_HEADS * head, WIDTH),
            "self_attn.o_proj": (WIDTH, HEADS * head),
            "mlp.gate_proj": (HIDDEN, WIDTH),
            "mlp.up_proj": (HIDDEN, WIDTH),
            "mlp.down_proj": (WIDTH, HIDDEN),
        }
        for name, shape in matrices.items():
            yield f"model.layers.{layer}.{name}.weight", shape
        for name in biased:
            yield f"model.layers.{layer}.{name}.bias", matrices[name][:1]
        for name in norms:
            size = head if name in HEAD_NORMS else WIDTH
            yield f"model.layers.{layer}.{name}.weight", (size,)


def digest(values):
    assert values.dtype == np.float32
    data = np.ascontiguousarray(values).astype("<f4").tobytes()
    return {"shape": list(values.shape), "sha3-512": hashlib.sha3_512(data).hexdigest()}


def write_digests(path, tensors):
    entries = {name: digest(values) for name, values in sorted(tensors.items())}
    made = f"cargo xtask reference, with gguf {version('gguf')} and numpy {np.__version__}"
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
    text = '{"made_by": %s, "tensors": {\n%s\n}}\n' % (json.dumps(made), ",\n".join(lines))
    path.write_text(text)


def version(package):
    from importlib.metadata import version

    return version(package)


def make(out, name, arch, head, norms, tied, biased, kind):
    random = np.random.default_rng(int.from_bytes(name.encode(), "little"))
    layers = 2 if name == "llama" else 1
    writer = gguf.GGUFWriter(out / f"{name}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(f"tiny {name}")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0 if "gemma" in name else 500000.0)
    writer.add_key_length(head)
    writer.add_value_length(head)
    if name == "gemma2":
        writer.add_sliding_window(64)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
    if name == "gemma3":
        writer.add_sliding_window(32)
    if name == "qwen3":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(32)
    vocabulary, ids = vocabularies.add(writer, name)

    names = gguf.get_tensor_name_map(arch, layers)
    expected = {}
    for theirs, shape in shapes(layers, head, norms, tied, biased, vocabulary):
        base, _, suffix = theirs.rpartition(".")
        ours = f"{names.get_name(base)}.{suffix}"
        values = random.standard_normal(shape, dtype=np.float32)
        if "gemma" in name and theirs.endswith("norm.weight"):
            values = values + np.float32(1)
        heads = heads_of(theirs) if "llama" in name else None
        if heads:
            values = permute(values, heads)
        stored = kind if len(shape) > 1 else T.F32
        data = gguf.quantize(values, stored)
        writer.add_tensor(ours, data, raw_dtype=stored)
        back = gguf.dequantize(data, stored).reshape(shape)
        if heads:
            back = reverse_permute(back, heads)
        if "gemma" in name and theirs.endswith("norm.weight"):
            back = back - np.float32(1)
        expected[theirs] = back
    if name == "llama":
        writer.add_tensor("rope_freqs.weight", llama3_factors(head, 500000.0, 32.0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_digests(out / f"{name}.digests.json", expected)
    return ids


def llama3_factors(head, base, factor, low=1.0, high=4.0, original=8192):
    """As llama.cpp's converter computes them for Llama 3.1 and later."""
    import math

    factors = []
    for at in range(0, head, 2):
        wavelength = 2 * math.pi * base ** (at / head)
        if wavelength < original / high:
            factors.append(1)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def real(out, path):
    """The digests of a model of architecture `llama`, tied, from a file that is not kept."""
    reader = gguf.GGUFReader(path)
    layers = reader.fields["llama.block_count"].contents()
    heads = reader.fields["llama.attention.head_count"].contents()
    key_heads = reader.fields["llama.attention.head_count_kv"].contents()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, layers)
    theirs = ["model.embed_tokens", "model.norm"]
    parts = ["q_proj", "k_proj", "v_proj", "o_proj"]
    within = NORMS + [f"self_attn.{part}" for part in parts]
    within += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    theirs += [f"model.layers.{layer}.{part}" for layer in range(layers) for part in within]
    by_name = {f"{names.get_name(name)}.weight": f"{name}.weight" for name in theirs}
    expected = {}
    for tensor in reader.tensors:
        name = by_name.pop(tensor.name)
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        values = values.reshape([int(size) for size in reversed(tensor.shape)])
        if ".q_proj." in name:
            values = reverse_permute(values, heads)
        if ".k_proj." in name:
            values = reverse_permute(values, key_heads)
        expected[name] = values
    assert not by_name, by_name
    write_digests(out / "smollm2-135m-instruct.digests.json", expected)
    values = {key: reader.fields[f"tokenizer.ggml.{key}"].contents() for key in ["tokens", "merges"]}
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    special = [token for token, kind in zip(values["tokens"], kinds) if kind == 3]
    bpe = lambda text: vocabularies.bpe(text, **values, pre="smollm", special=special)
    return {text: bpe(text) for text in vocabularies.TEXTS}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    ids = {model[0]: make(out, *model) for model in MODELS}
    ids["smollm2-135m-instruct"] = real(out, sys.argv[2])
    lines = [f"{json.dumps(name)}: {json.dumps(of)}" for name, of in ids.items()]
    (out / "tokens.json").write_text("{" + ",\n".join(lines) + "}\n")
