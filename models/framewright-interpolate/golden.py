"""Writes golden.safetensors: what the model makes of small clips that it was not trained on.

`frames` u8 [4, 3, 64, 96, 3]: of each kind in `KINDS`, the earlier frame, the later one, and the one between them;
`model` f32 [4, 3, 64, 96]: what the network makes of the first two, divided by 255, at half time.
"""

from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file

import evaluate
import network

HERE = Path(__file__).parent
KINDS = ("pan, 4 px", "disc, 4 px", "thin lines, 3 px", "text, 3 px")


def main() -> None:
    model, clips, made = network.load(HERE / "framewright-interpolate.safetensors"), [], []
    for number, kind in enumerate(KINDS):
        frames = evaluate.bytes_of(evaluate.KINDS[kind](numpy.random.default_rng([1, number]))[0])
        frames = frames[:, :, 64:128, 48:144]
        clips.append(frames.byte().permute(0, 2, 3, 1))
        made.append(network.between(model, frames[:1] / 255, frames[1:2] / 255, 0.5)[0])
    tensors = {"frames": torch.stack(clips).contiguous(), "model": torch.stack(made).contiguous()}
    save_file(tensors, HERE / "golden.safetensors")


if __name__ == "__main__":
    main()
