"""Writes golden.safetensors: one small frame with what halving, doubling and the model make of it.

`frame` u8 [48, 64, 3]; `small` u8 [24, 32, 3], halved by bicubic; `bicubic` u8 [48, 64, 3], `small` doubled by bicubic;
`model` f32 [3, 48, 64], the network's output for `small` / 255, not clamped; `model_rgb` u8 [48, 64, 3], the same
clamped to 0..1, times 255, rounded.
"""

from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

import evaluate
import network
import pixels
import scenes

HERE = Path(__file__).parent
KINDS = (pixels.text, pixels.dots, scenes.ramp, scenes.basins)


def main() -> None:
    random = numpy.random.default_rng(1)
    quarters = [scenes.clip([kind], random, 32, 1)[0] for kind in KINDS]
    frame = numpy.concatenate([numpy.concatenate(quarters[:2], 1), numpy.concatenate(quarters[2:], 1)], 0)[:48]
    small = evaluate.halve(frame)
    model = network.load(HERE / "framewright-x2.safetensors")
    with torch.no_grad():
        output = model(torch.tensor(small).permute(2, 0, 1)[None].float() / 255)[0]
    arrays = {"frame": frame, "small": small, "bicubic": evaluate.double(small)}
    tensors = {name: torch.tensor(array).contiguous() for name, array in arrays.items()}
    made = torch.tensor(evaluate.upscale(model, small)).contiguous()
    save_file(tensors | {"model": output.contiguous(), "model_rgb": made}, HERE / "golden.safetensors")


if __name__ == "__main__":
    main()
