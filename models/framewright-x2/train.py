"""Trains framewright-x2 on scenes that it makes itself, on a CPU, and writes it as f16 safetensors.

    python models/framewright-x2/train.py

The file is rewritten about once a minute with the averaged weights and its gain over bicubic on held-out scenes of the
same kinds, so training may be stopped at any time. ffmpeg's clips, which evaluate.py uses, play no part in training.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import numpy
import torch

import evaluate
import network
import pixels
import scenes

SEED = 20
SIDE, FRAMES = 128, 2
PATCH, BATCH = 32, 16  # in pixels of the small picture
BORDER = 4
PEAK, WARM_UP, COOL_DOWN, AVERAGING = 2e-3, 200, 1000, 0.999
# Below this mean squared error (about that of rounding to 8 bits) a patch is as good as it can look.
ROUNDING = 1.0 / 12 / 255**2


def pairs(seed: int, clips: int, kinds: list) -> tuple:
    """Small and large frames, u8 [clips * FRAMES, 3, side, side]."""
    random, small, large = numpy.random.default_rng(seed), [], []
    for _ in range(clips):
        for frame in scenes.clip(kinds, random, SIDE, FRAMES):
            large.append(frame.transpose(2, 0, 1))
            small.append(evaluate.halve(frame).transpose(2, 0, 1))
    return torch.tensor(numpy.stack(small)), torch.tensor(numpy.stack(large))


def batch(random: numpy.random.Generator, small: torch.Tensor, large: torch.Tensor) -> tuple:
    """Random patches, mirrored, turned, with colours exchanged or inverted; f32 in 0..1."""
    inputs, truths = [], []
    for index in random.integers(0, len(small), BATCH):
        top, left = random.integers(0, small.shape[2] - PATCH + 1, 2)
        low = small[index, :, top : top + PATCH, left : left + PATCH]
        high = large[index, :, 2 * top : 2 * (top + PATCH), 2 * left : 2 * (left + PATCH)]
        turns, mirror, invert = random.integers(4), random.random() < 0.5, random.random() < 0.5
        colours = torch.tensor(random.permutation(3))
        for patch, patches in ((low, inputs), (high, truths)):
            patch = torch.rot90(patch[colours], int(turns), (1, 2))
            patch = patch.flip(2) if mirror else patch
            patches.append(255 - patch if invert else patch)
    return torch.stack(inputs).float() / 255, torch.stack(truths).float() / 255


def loss(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The mean over patches of log(mean squared error), that is of -PSNR: a smooth patch counts as much as a noisy one.

    Luma counts most; what the display clips is nearly free; the padded border is a small term of its own.
    """
    shown = made.clamp(0, 1)
    error = shown + 0.05 * (made - shown) - truth
    luma = (error * torch.tensor(evaluate.LUMA, dtype=torch.float32).view(1, 3, 1, 1)).sum(1, keepdim=True)
    squared = (luma**2 + 0.2 * (error**2).mean(1, keepdim=True))[:, 0]
    inner = squared[:, BORDER:-BORDER, BORDER:-BORDER]
    whole, inside = squared.sum((1, 2)), inner.sum((1, 2))
    edge = (whole - inside) / (squared[0].numel() - inner[0].numel())
    return torch.log(inside / inner[0].numel() + ROUNDING).mean() + 0.1 * torch.log(edge + ROUNDING).mean()


def held_out_gains(weights: dict, held_out: dict) -> dict:
    """Gain over bicubic in dB for each kind of scene."""
    model = network.Upscaler()
    model.load_state_dict(weights)
    gains = {}
    for kind, (small, large) in held_out.items():
        differences = []
        for low, high in zip(small, large):
            low, high = low.permute(1, 2, 0).numpy(), high.permute(1, 2, 0).numpy()
            ours = evaluate.squared_error(evaluate.upscale(model, low), high) + 1 / 12
            differences.append(10 * math.log10((evaluate.squared_error(evaluate.double(low), high) + 1 / 12) / ours))
        gains[kind] = sum(differences) / len(differences)
    return gains


def learning_rate(step: int, steps: int) -> float:
    """Level, with a ramp at the start and a fall by a half cosine at the end."""
    fall = max(0.0, 1 - (steps - step) / COOL_DOWN)
    return PEAK * min(1.0, step / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * fall)) + 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("framewright-x2.safetensors"))
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, help="keep the whole state there each minute, and go on from it")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    random = numpy.random.default_rng(SEED)
    begun = reported = time.monotonic()
    small, large = pairs(SEED, arguments.clips, pixels.KINDS)
    kinds = list(dict.fromkeys(pixels.KINDS))
    held_out = {kind.__name__: pairs(SEED + 1 + n, 5, [kind]) for n, kind in enumerate(kinds)}
    print(f"{len(small)} training pairs after {time.monotonic() - begun:.0f} s", flush=True)

    model = network.Upscaler()
    network.start(model)
    model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.Adam(model.parameters())
    done = 0
    if arguments.state and arguments.state.exists():
        state = torch.load(arguments.state, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, done, random.bit_generator.state = state["average"], state["step"], state["random"]
    losses = []
    for step in range(done + 1, arguments.steps + 1):
        optimiser.param_groups[0]["lr"] = learning_rate(step, arguments.steps)
        low, high = batch(random, small, large)
        made = model(low.contiguous(memory_format=torch.channels_last))
        value = loss(made - network.flat_response(model).repeat(1, 1, PATCH, PATCH), high)
        optimiser.zero_grad()
        value.backward()
        network.project_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        network.keep_flat_areas_flat(model)
        keep = min(AVERAGING, 1 - 10 / (step + 10))
        for name, tensor in model.state_dict().items():
            average[name].lerp_(tensor, 1 - keep)
        losses.append(value.item())
        if step == arguments.steps or time.monotonic() - reported > 60:
            stored = network.rounded(average)
            gains = held_out_gains(stored, held_out)
            network.save(stored, arguments.output, f"framewright-x2, Apache-2.0, step {step}")
            parts = " ".join(f"{kind} {gain:+.2f}" for kind, gain in gains.items())
            mean, elapsed = sum(gains.values()) / len(gains), time.monotonic() - begun
            level = sum(losses) / len(losses)
            print(f"{elapsed:.0f} s, step {step}: loss {level:.4f}, mean {mean:+.2f} dB | {parts}", flush=True)
            if arguments.state:
                state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
                torch.save(state | {"step": step, "random": random.bit_generator.state}, arguments.state)
            losses, reported = [], time.monotonic()


if __name__ == "__main__":
    main()
