"""Tiny models with seeded random weights, as `transformers` builds and writes them.

What must stay true: the same versions of the packages make the same weights again, no weight of a norm
is one and no bias is zero, and a sequence is longer than the sliding windows.
"""

import torch
from transformers import (
    BertConfig,
    BertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 128
BATCH, LENGTH = 2, 40

SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    attn_implementation="eager",
)


def sizes(**others):
    return {**SIZES, **others}


def llama():
    return LlamaForCausalLM(LlamaConfig(**sizes(rms_norm_eps=1e-5, tie_word_embeddings=False)))


def llama_tied():
    """As Llama 3.2: tied, its frequencies kept, blended and stretched by where they lie."""
    scaling = {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = LlamaConfig(
        **sizes(rms_norm_eps=1e-5, rope_theta=500_000.0, rope_scaling=scaling, tie_word_embeddings=True)
    )
    return LlamaForCausalLM(config)


def mistral():
    return MistralForCausalLM(
        MistralConfig(**sizes(sliding_window=12, head_dim=16, tie_word_embeddings=False))
    )


def qwen2():
    return Qwen2ForCausalLM(Qwen2Config(**sizes(rope_theta=1_000_000.0, tie_word_embeddings=True)))


def qwen3():
    """Its heads together are wider than the hidden state."""
    return Qwen3ForCausalLM(
        Qwen3Config(**sizes(head_dim=32, rope_theta=1_000_000.0, tie_word_embeddings=True))
    )


def gemma3():
    """Two sliding layers, then a full one with its own, scaled frequencies."""
    config = Gemma3TextConfig(
        **sizes(
            num_hidden_layers=3,
            num_key_value_heads=1,
            head_dim=32,
            query_pre_attn_scalar=24,
            sliding_window=8,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            rope_theta=1_000_000.0,
            rope_local_base_freq=10_000.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        )
    )
    return Gemma3ForCausalLM(config)


def bert():
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    return BertModel(config)


DECODERS = {
    "llama": llama,
    "llama-tied": llama_tied,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma3": gemma3,
}


def fill(model, seed):
    """Gives every parameter seeded values of a size that keeps all of the model in play."""
    generator = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma3")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            lowered = name.lower()
            if "norm" in lowered and name.endswith("weight"):
                # Gemma adds one to the weights of its norms.
                parameter.copy_(0.2 * noise + (0.0 if gemma else 1.0))
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif "embed" in lowered:
                parameter.copy_(0.5 * noise / (8.0 if gemma else 1.0))
            else:
                parameter.copy_(1.5 * noise / parameter.shape[1] ** 0.5)
    return model.eval()


def tokens(seed, batch=BATCH, length=LENGTH):
    """Token ids other than the three special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def next_token_loss(logits, ids):
    """The mean over all positions that have a next token, of all sequences."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1)
    )
