"""Writes the configurations of the tiny models as `transformers` 5 writes them.

usage: configs_5.py REFERENCE_DIRECTORY

`models/NAME/config-5.json` is what version 5 makes of `config.json`: the frequencies of rotary embeddings
stand in `rope_parameters`, and not in `rope_theta`, `rope_scaling` and `rope_local_base_freq`. It computes
with it what is in `expected.safetensors`, which is checked here.
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

CLOSE = 2e-4


def main(reference):
    assert transformers.__version__.startswith("5."), transformers.__version__
    transformers.utils.logging.disable_progress_bar()
    for directory in sorted((pathlib.Path(reference) / "models").iterdir()):
        config = AutoConfig.from_pretrained(directory)
        expected = load_file(directory / "expected.safetensors")
        if "logits" in expected:
            model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
            computed, wanted = model(expected["tokens"]).logits, expected["logits"]
        else:
            model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
            output = model(expected["tokens"], attention_mask=expected["attention_mask"])
            computed, wanted = output.last_hidden_state, expected["hidden"]
            wanted, computed = (
                tensor * expected["attention_mask"][:, :, None] for tensor in (wanted, computed)
            )
        apart = (computed - wanted).abs().max().item()
        print(f"{directory.name}: {apart:.1e} from what version 4 computed")
        assert apart < CLOSE, directory
        config.to_json_file(directory / "config-5.json", use_diff=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
