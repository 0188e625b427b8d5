"""Writes the PyTorch fixtures of crates/vox-model with PyTorch itself.

    python3 xtask/reference/pytorch_fixtures.py crates/vox-model/tests/fixtures/pytorch

Every tensor's data is 0, 1, 2, ... of its type, so that the tests know what to expect without PyTorch.
"""

import collections
import pathlib
import sys

import torch

DTYPES = {
    "bool": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
    "c64": torch.complex64,
}


def counted(*shape, dtype=torch.float32):
    count = 1
    for size in shape:
        count *= size
    return torch.arange(count, dtype=torch.float64).reshape(shape).to(dtype)


def state_dict():
    """All types, and every way in which a tensor lies in its storage."""
    state = collections.OrderedDict()
    for name, dtype in DTYPES.items():
        state["types." + name] = counted(2, 3, dtype=dtype)
    whole = counted(4, 6)
    state["layout.whole"] = whole
    state["layout.tied"] = whole
    state["layout.transposed"] = whole.t()
    state["layout.rows"] = whole[1:3]
    state["layout.columns"] = whole[:, 2:4]
    state["layout.every_second"] = whole[::2, ::3]
    state["layout.expanded"] = counted(3).unsqueeze(0).expand(2, 3)
    state["layout.permuted"] = counted(2, 3, 4).permute(2, 0, 1)
    state["layout.scalar"] = torch.tensor(7.0)
    state["layout.empty"] = torch.empty(0, 3)
    state["layout.parameter"] = torch.nn.Parameter(counted(2, 2))
    return state


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state_dict(), folder / "zip.pt")
    torch.save(state_dict(), folder / "zip-protocol-4.pt", pickle_protocol=4)
    torch.save(state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    for parameter in module.parameters():
        parameter.data = counted(*parameter.shape)
    optimizer = torch.optim.Adam(module.parameters())
    checkpoint = {
        "epoch": 3,
        "state_dict": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "note": "a checkpoint of a training program",
    }
    torch.save(checkpoint, folder / "checkpoint.pt")
    torch.save(module, folder / "module.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), folder / "torchscript.pt")


main(sys.argv[1])
