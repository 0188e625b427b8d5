"""Writes what bitsandbytes makes of a tensor in NF4 with double quantisation.

usage: nf4.py OUT_FILE

The tensors:

* `code_book` [16] f32: the values of NF4, in the order of the codes;
* `scale_code_book` [256] f32: the values of the 8-bit "dynamic" type that scales are quantised to;
* `NAME.values` [rows, columns] f32: what is quantised, by rows, in blocks of 64;
* `NAME.packed` [elements / 2] u8: two codes a byte, the first of them in the upper four bits;
* `NAME.absmax` [blocks] f32: the scale of each block with single quantisation, its largest magnitude;
* `NAME.plain` [rows, columns] f32: the values again, with those scales;
* `NAME.scale_codes` [blocks] u8: the scales less their mean, quantised in blocks of 256;
* `NAME.scale_absmax` [blocks / 256, rounded up] f32: the scale of each such block;
* `NAME.scale_offset` [1] f32: the mean of the scales;
* `NAME.scales` [blocks] f32: the scales again;
* `NAME.values_again` [rows, columns] f32: the values again, with those.

`large` has more than one block of scales; `edges` holds zeros alone, the code book itself, the middles
between its values, one large value among small ones, and magnitudes from 1e-30 to 100.
"""

import sys

import bitsandbytes
import bitsandbytes.functional as functional
import torch
from safetensors.torch import save_file

BLOCK = 64


def quantised(name, values, out):
    packed, state = functional.quantize_4bit(values, blocksize=BLOCK, quant_type="nf4")
    again, double = functional.quantize_4bit(
        values, blocksize=BLOCK, quant_type="nf4", compress_statistics=True
    )
    assert torch.equal(packed, again)
    assert double.state2.blocksize == 256
    scales = functional.dequantize_blockwise(double.absmax, double.state2) + double.offset
    out |= {
        f"{name}.values": values,
        f"{name}.packed": packed.flatten(),
        f"{name}.absmax": state.absmax,
        f"{name}.plain": functional.dequantize_4bit(packed, state),
        f"{name}.scale_codes": double.absmax,
        f"{name}.scale_absmax": double.state2.absmax,
        f"{name}.scale_offset": double.offset.reshape(1),
        f"{name}.scales": scales,
        f"{name}.values_again": functional.dequantize_4bit(again, double),
    }
    out["code_book"] = state.code
    out["scale_code_book"] = double.state2.code
    error = (out[f"{name}.values_again"] - values).abs().mean() / values.abs().mean()
    print(f"{name}: {scales.numel()} blocks, mean error {error.item():.4f} of the mean magnitude")


def edges(code_book):
    middles = (code_book[1:] + code_book[:-1]) / 2
    lone = torch.full((BLOCK,), 1e-3)
    lone[17] = -5.0
    magnitudes = torch.logspace(-30, 2, BLOCK) * torch.tensor([1.0, -1.0]).repeat(BLOCK // 2)
    rows = [
        torch.zeros(BLOCK),
        code_book.repeat(BLOCK // 16),
        torch.cat([code_book, middles, -middles, code_book, torch.ones(2)]),
        lone,
        magnitudes,
    ]
    return torch.stack(rows)


def main(out):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(5000)
    spread = torch.exp(torch.randn(1, 192, generator=generator))
    tensors = {}
    quantised("large", torch.randn(96, 192, generator=generator) * spread, tensors)
    quantised("edges", edges(tensors["code_book"].clone()), tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, out)
    print(f"bitsandbytes {bitsandbytes.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
