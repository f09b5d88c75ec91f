#!/usr/bin/env python3
"""How fast do the worker's networks run on this CPU, beside PyTorch?

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 numpy safetensors
    venv/bin/python worker/benches/upscale_beside_torch.py

Both sides get the same weights (noise, which takes as long as any), the same frames and as many threads, and take turns, so that
whatever else the machine does hits both. A row's ratio is the median over the turns of PyTorch's time divided by the worker's:
above 1 the worker is faster. The second ratio is the same in processor time, which a busy machine changes less; with --threads 1
least. Results that differ end the benchmark, since they would not be the same work.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Compact(nn.Module):
    """SRVGGNetCompact, x4, 64 features."""

    def __init__(self, convolutions, features=64, scale=4):
        super().__init__()
        layers = [conv(3, features), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [conv(features, features), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, conv(features, 3 * scale**2))
        self.scale = scale

    def forward(self, frames):
        return functional.pixel_shuffle(self.body(frames), self.scale) + functional.interpolate(frames, scale_factor=self.scale)


def leaky(features):
    return functional.leaky_relu(features, 0.2, inplace=True)


class DenseBlock(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        for number in range(1, 6):
            outputs = growth if number < 5 else features
            self.add_module(f"conv{number}", conv(features + growth * (number - 1), outputs))

    def forward(self, features):
        seen = [features]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(leaky(layer(torch.cat(seen, 1))))
        return self.conv5(torch.cat(seen, 1)) * 0.2 + features


class ResidualBlock(nn.Module):
    def __init__(self, features, growth):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth) for _ in range(3))

    def forward(self, features):
        return self.rdb3(self.rdb2(self.rdb1(features))) * 0.2 + features


class Rrdb(nn.Module):
    """RRDBNet, x4, 64 features, growth 32."""

    def __init__(self, blocks, features=64, growth=32):
        super().__init__()
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(ResidualBlock(features, growth) for _ in range(blocks)))
        for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
            self.add_module(name, conv(features, features))
        self.conv_last = conv(features, 3)

    def forward(self, frames):
        first = self.conv_first(frames)
        features = first + self.conv_body(self.body(first))
        for layer in (self.conv_up1, self.conv_up2):
            features = leaky(layer(functional.interpolate(features, scale_factor=2)))
        return self.conv_last(leaky(self.conv_hr(features)))


CASES = [
    # name, network, [frames, height, width], turns
    ("SRVGG 16 convolutions", lambda: Compact(16), [1, 180, 320], 9),
    ("SRVGG 32 convolutions", lambda: Compact(32), [1, 180, 320], 9),
    ("SRVGG 16, 4 frames", lambda: Compact(16), [4, 90, 160], 9),
    ("RRDB 6 blocks", lambda: Rrdb(6), [1, 90, 160], 7),
    ("RRDB 23 blocks", lambda: Rrdb(23), [1, 90, 160], 5),
]


class Worker:
    """The other process. One pass for each line."""

    def __init__(self, program, threads, *files):
        command = [program, str(threads), *map(str, files)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.threads = int(self.answer().removeprefix("ready "))

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"the worker's side ended with status {self.process.wait()}; its own words are above")
        return line

    def seconds(self):
        """On the clock, and of processor time."""
        start = self.processor_seconds()
        print(file=self.process.stdin, flush=True)
        return float(self.answer()), self.processor_seconds() - start

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def built():
    """The worker's side, compiled."""
    # Of the whole workspace, as everything else is built, so that no dependency is compiled again.
    command = ["cargo", "build", "--release", "--workspace", "--bench", "upscale_beside_torch"]
    told = subprocess.run(command + ["--message-format", "json"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, told.stdout.splitlines())
    return next(
        message["executable"]
        for message in messages
        if message.get("executable") and message["target"]["kind"] == ["bench"]
    )


def torch_seconds(network, frames):
    start, start_processor = time.perf_counter(), time.process_time()
    network(frames)
    return time.perf_counter() - start, time.process_time() - start_processor


@torch.inference_mode()
def measured(program, threads, network, shape, turns):
    """Seconds of PyTorch and of the worker, turn by turn, on the clock and of processor time."""
    frames = torch.rand(shape[0], 3, *shape[1:])
    with tempfile.TemporaryDirectory() as folder:
        weights, inputs, result = (pathlib.Path(folder, name) for name in ("weights", "frames", "result"))
        save_file(network.state_dict(), weights)
        save_file({"frames": frames}, inputs)
        worker = Worker(program, threads, weights, inputs, result)
        if worker.threads != threads:
            raise SystemExit(f"the worker's side has {worker.threads} threads, not {threads}: there are no more cores")
        difference = (network(frames) - load_file(result)["upscaled"]).abs().max().item()
        if difference > 1e-4:
            raise SystemExit(f"the results differ by {difference}: not the same work")
        pairs = [(torch_seconds(network, frames), worker.seconds()) for _ in range(turns)]
        worker.end()
    return pairs


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    threads = arguments.parse_args().threads
    torch.manual_seed(1)
    torch.set_num_threads(threads)
    program = built()
    print(f"torch {torch.__version__}, float32, eager; {threads} threads on {os.cpu_count()} cores of {processor()}")
    print("| network | input | torch s/frame | worker s/frame | torch / worker | in single turns | in processor time |")
    print("|---|---|---|---|---|---|---|")
    for name, make, shape, turns in CASES:
        pairs = measured(program, threads, make().eval(), shape, turns)
        clock, processor_time = ([(torch_side[kind], worker_side[kind]) for torch_side, worker_side in pairs] for kind in (0, 1))
        torch_time, worker_time = (statistics.median(times) / shape[0] for times in zip(*clock))
        ratios, processor_ratios = ([torch_side / worker_side for torch_side, worker_side in kind] for kind in (clock, processor_time))
        size = f"{shape[0]} x {shape[2]}x{shape[1]}"
        row = f"| {name} | {size} | {torch_time:.3f} | {worker_time:.3f} | {statistics.median(ratios):.2f} |"
        print(f"{row} {min(ratios):.2f} to {max(ratios):.2f} | {statistics.median(processor_ratios):.2f} |", flush=True)


if __name__ == "__main__":
    main()
