"""How much better than bicubic is the upscaler, on clips of generators that it was not trained on?

Each clip is 24 frames of 320x180 from one of ffmpeg's sources. A frame is halved by bicubic resampling (Catmull-Rom,
a = -0.5, antialiased: the kernel is stretched by two), doubled again by the model and by bicubic, and both results,
rounded to 8 bits, are compared with the frame. README.md defines every step.

    python evaluate.py                      # the model beside this file, by PyTorch
    python evaluate.py --export DIR         # also write DIR/<clip>/small/000.png and DIR/<clip>/large/000.png
    python evaluate.py --outputs DIR        # score DIR/<clip>/000.png, made by something else, with the same code
"""

import argparse
import json
import math
import subprocess
from pathlib import Path

import numpy
import torch
from PIL import Image

import network

WIDTH, HEIGHT, FRAMES = 320, 180, 24
BORDER = 4
LUMA = numpy.array([0.299, 0.587, 0.114])  # BT.601, full range, on R'G'B' of 0..255, not rounded
CLIPS = json.loads(Path(__file__).with_name("clips.json").read_text())


def clip(source: str) -> numpy.ndarray:
    """The source's first frames, u8 [24, 180, 320, 3]."""
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(FRAMES)]
    command += ["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    return numpy.frombuffer(raw, numpy.uint8).reshape(FRAMES, HEIGHT, WIDTH, 3)


def catmull_rom(distance: numpy.ndarray) -> numpy.ndarray:
    """The cubic convolution kernel with a = -0.5."""
    x = abs(distance)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return numpy.where(x < 1, near, numpy.where(x < 2, far, 0.0))


def weights(size: int, wanted: int) -> numpy.ndarray:
    """[wanted, size]: rows that sum to one; what lies beyond the edge has no weight; wider kernel when shrinking."""
    step = size / wanted
    centres = (numpy.arange(wanted) + 0.5) * step - 0.5
    rows = catmull_rom((numpy.arange(size)[None] - centres[:, None]) / max(step, 1.0))
    return rows / rows.sum(1, keepdims=True)


def bicubic(frame: numpy.ndarray, width: int, height: int) -> numpy.ndarray:
    """u8 [H, W, 3] resized in f64, and rounded once, at the end."""
    rows, columns = weights(frame.shape[0], height), weights(frame.shape[1], width)
    resized = numpy.einsum("yh,hwc,xw->yxc", rows, frame.astype(float), columns, optimize=True)
    return numpy.floor(resized.clip(0, 255) + 0.5).astype(numpy.uint8)


def halve(frame: numpy.ndarray) -> numpy.ndarray:
    return bicubic(frame, frame.shape[1] // 2, frame.shape[0] // 2)


def double(frame: numpy.ndarray) -> numpy.ndarray:
    return bicubic(frame, frame.shape[1] * 2, frame.shape[0] * 2)


@torch.no_grad()
def upscale(model: network.Upscaler, frame: numpy.ndarray) -> numpy.ndarray:
    """u8 [H, W, 3] to u8 [2H, 2W, 3]: divided by 255, and the result clamped to 0..1, times 255, rounded."""
    image = torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
    large = model(image)[0].clamp(0, 1) * 255
    return large.round().to(torch.uint8).permute(1, 2, 0).numpy()


def squared_error(frame: numpy.ndarray, truth: numpy.ndarray) -> float:
    """The mean squared error of luma, in 8-bit steps, without the border."""
    difference = (frame.astype(float) - truth.astype(float)) @ LUMA
    return float((difference[BORDER:-BORDER, BORDER:-BORDER] ** 2).mean())


def decibels(errors: list) -> float:
    """PSNR of a whole clip: of the mean error of its frames."""
    return 10 * math.log10(255**2 / max(sum(errors) / len(errors), 1e-12))


def table(clips: dict, upscaled) -> tuple:
    """Lines to print, and the gain of each clip. `upscaled(name, index, small)` gives the frame to score."""
    lines, gains = ["| clip | bicubic dB | model dB | gain dB |", "|---|---|---|---|"], []
    for name, frames in clips.items():
        base, ours = [], []
        for index, truth in enumerate(frames):
            small = halve(truth)
            base.append(squared_error(double(small), truth))
            ours.append(squared_error(upscaled(name, index, small), truth))
        gains.append(decibels(ours) - decibels(base))
        lines.append(f"| {name} | {decibels(base):.2f} | {decibels(ours):.2f} | {gains[-1]:+.2f} |")
    lines.append(f"| mean of the gains | | | {sum(gains) / len(gains):+.2f} |")
    lines.append(f"| least gain | | | {min(gains):+.2f} |")
    return lines, gains


def export(clips: dict, folder: Path) -> None:
    for name, frames in clips.items():
        for index, truth in enumerate(frames):
            for kind, frame in (("small", halve(truth)), ("large", truth)):
                path = folder / name / kind / f"{index:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path(__file__).with_name("framewright-x2.safetensors"))
    parser.add_argument("--export", type=Path, help="write the clips' small and large frames there")
    parser.add_argument("--outputs", type=Path, help="score frames found there instead of running the model")
    arguments = parser.parse_args()
    clips = {name: clip(source) for name, source in CLIPS.items()}
    if arguments.export:
        export(clips, arguments.export)
    if arguments.outputs:
        def upscaled(name, index, _small):
            return numpy.asarray(Image.open(arguments.outputs / name / f"{index:03}.png").convert("RGB"))
    else:
        model = network.load(arguments.weights)

        def upscaled(_name, _index, small):
            return upscale(model, small)
    lines, gains = table(clips, upscaled)
    print("\n".join(lines))
    if sum(gains) / len(gains) < 1.0 or min(gains) < 0.0:
        raise SystemExit("the mean of the gains has to be 1 dB or more, and none below zero")


if __name__ == "__main__":
    main()
