"""Trains framewright-interpolate on clips that it makes itself, on a CPU, and writes it as f16 safetensors.

    python models/framewright-interpolate/train.py

One process makes clips while another trains. The file is rewritten every few minutes with the averaged weights and
their gain over blending on held-out clips, so training may be stopped at any time.
"""

import argparse
import copy
import math
import multiprocessing
import time
from pathlib import Path

import numpy
import torch
from torch.nn import functional

import clips
import network

SEED = 7
BATCH, PATCH = 4, 80
CHUNK, KEPT, EACH = 32, 32, 150  # clips of a chunk, chunks in use, steps from one chunk to the next
PEAK, WARM_UP, COOL_DOWN, AVERAGING = 1e-3, 100, 3000, 0.997
FLOW = 0.1  # how much the flow counts beside the picture


def batch(random: numpy.random.Generator, chunks: list) -> tuple:
    """Random pieces of clips, mirrored, turned, backwards, with colours exchanged or inverted."""
    frames, flows, times = [], [], []
    for _ in range(BATCH):
        pictures, motions, moments = chunks[random.integers(len(chunks))]
        index = int(random.integers(len(pictures)))
        top, left = random.integers(0, clips.SIDE - PATCH + 1, 2)
        piece = (..., slice(top, top + PATCH), slice(left, left + PATCH))
        picture, flow = torch.tensor(pictures[index][piece]), torch.tensor(motions[index][piece]).float()
        now = float(moments[index])
        chance = random.random(5) < 0.5
        if chance[0]:
            picture, flow = picture.flip(3), flow.flip(2) * torch.tensor([-1.0, 1, -1, 1]).view(4, 1, 1)
        if chance[1]:
            picture, flow = picture.flip(2), flow.flip(1) * torch.tensor([1.0, -1, 1, -1]).view(4, 1, 1)
        if chance[2]:
            picture, flow = picture.transpose(2, 3), flow.transpose(1, 2)[[1, 0, 3, 2]]
        if chance[3]:
            picture, flow, now = picture[[1, 0, 2]], flow[[2, 3, 0, 1]], 1 - now
        picture = picture[:, torch.tensor(random.permutation(3))]
        frames.append(255 - picture if chance[4] else picture)
        flows.append(flow)
        times.append(now)
    moments = torch.tensor(times, dtype=torch.float32).view(-1, 1, 1, 1)
    return torch.stack(frames).float() / 255, torch.stack(flows), moments


def picture_loss(made: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """L1 at several sizes: a large one, a ghost for instance, counts at all of them."""
    rest = made - truth
    total = rest.abs().mean()
    for level in range(1, 4):
        rest = functional.avg_pool2d(rest, 2)
        total = total + level * rest.abs().mean()
    return total


def flow_loss(flows: list, truth: torch.Tensor) -> torch.Tensor:
    """The distance in pixels, less steep within a tenth of one; all blocks count."""
    total, truth = 0, truth[:, :, 1::2, 1::2]
    for weight, flow in zip((0.8, 1.2), flows):
        error = flow[:, :, 1::2, 1::2] - truth
        total = total + weight * (error[:, 0::2] ** 2 + error[:, 1::2] ** 2 + 0.01).sqrt().mean()
    return total


@torch.no_grad()
def held_out(weights: dict, chunk: tuple) -> str:
    """Gain over blending in dB, by how far things move; and the mean error of the flow."""
    model = network.Interpolator()
    model.load_state_dict({name: tensor.half().float() for name, tensor in weights.items()})
    gains = {"<2": [], "<8": [], "<20": [], "more": []}
    distances = []
    for pictures, truth, moment in zip(*chunk):
        one, two, wanted = torch.tensor(pictures).float().div(255).split(1)
        now = torch.tensor(float(moment)).view(1, 1, 1, 1)
        made, flows = model(one, two, now)
        error = ((made - wanted) ** 2).mean() + 1e-5
        blend = ((one * (1 - now) + two * now - wanted) ** 2).mean() + 1e-5
        truth = torch.tensor(truth).float()
        moved = float((truth[:2] - truth[2:]).norm(dim=0).max())
        name = "<2" if moved < 2 else "<8" if moved < 8 else "<20" if moved < 20 else "more"
        gains[name].append(10 * math.log10(blend / error))
        distances.append(float((flows[-1][0] - truth).view(2, 2, -1).norm(dim=1).mean()))
    parts = [f"{name} {sum(values) / len(values):+.2f}" for name, values in gains.items() if values]
    return f"{' '.join(parts)} dB, flow off by {sum(distances) / len(distances):.2f}"


def learning_rate(step: int, steps: int) -> float:
    """Level, with a ramp at the start and a fall by a half cosine at the end."""
    fall = max(0.0, 1 - (steps - step) / COOL_DOWN)
    return PEAK * min(1.0, step / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * fall)) + 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("framewright-interpolate.safetensors"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--makers", type=int, default=1, help="processes that make clips")
    parser.add_argument("--state", type=Path, help="keep the whole state there, and go on from it")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    begun = reported = time.monotonic()
    unseen = clips.chunk(SEED + 1, 8, CHUNK)

    model = network.Interpolator()
    network.start(model)
    average = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    done, losses = 0, []
    if arguments.state and arguments.state.exists():
        state = torch.load(arguments.state, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        average, done = state["average"], state["step"]
    # Which clips a step sees follows from its number alone.
    first = max(0, done // EACH - KEPT + 1)
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.makers) as pool:
        numbers = range(first, arguments.steps // EACH + 1)
        # A few ahead, and no more: a chunk takes 38 MB.
        waiting = [pool.apply_async(clips.chunk, (SEED, number, CHUNK)) for number in numbers[:4]]
        asked, chunks, taken = len(waiting), [], first - 1
        for step in range(done + 1, arguments.steps + 1):
            while taken < step // EACH:
                chunks = chunks[-KEPT + 1 :] + [waiting.pop(0).get(timeout=600)]
                taken += 1
                if asked < len(numbers):
                    waiting.append(pool.apply_async(clips.chunk, (SEED, numbers[asked], CHUNK)))
                    asked += 1
            frames, flow, now = batch(numpy.random.default_rng([SEED, 1, step]), chunks)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, arguments.steps)
            made, flows = model(frames[:, 0], frames[:, 1], now)
            picture, motion = picture_loss(made, frames[:, 2]), flow_loss(flows, flow)
            optimiser.zero_grad()
            (picture + FLOW * motion).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            keep = min(AVERAGING, 1 - 10 / (step + 10))
            torch._foreach_lerp_(list(average.values()), list(model.state_dict().values()), 1 - keep)
            losses.append((picture.item(), motion.item()))
            if step == arguments.steps or time.monotonic() - reported > 45:
                network.save(average, arguments.output, f"framewright-interpolate, Apache-2.0, step {step}")
                picture, motion = numpy.mean(losses, 0)
                elapsed = time.monotonic() - begun
                said = held_out(average, unseen)
                print(f"{elapsed:.0f} s, step {step}: picture {picture:.4f} flow {motion:.3f} | {said}", flush=True)
                if arguments.state:
                    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average}
                    torch.save(state | {"step": step}, arguments.state)
                losses, reported = [], time.monotonic()


if __name__ == "__main__":
    main()
