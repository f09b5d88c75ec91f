"""How much better than blending is the interpolator? Per kind of motion, on clips that it was not trained on.

    python evaluate.py                      # the kinds of motion below
    python evaluate.py --pictures DIR       # also write DIR/<kind>.png: truth, model and blend side by side
    python evaluate.py --films FILE...      # each second frame of films, from its neighbours

Of each clip, a frame is left out and made from its two neighbours: by the model, by blending them, and by repeating the
earlier one. PSNR is of luma (BT.601) of frames of 8 bits; of a kind or a film, of the mean squared error of its frames.
"""

import argparse
import math
import subprocess
from pathlib import Path

import numpy
import torch
from PIL import Image

import clips
import network

SEED, COUNT, SIDE, BORDER = 99, 6, 192, 8
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
BUSY = (clips.leaves, clips.noise, clips.page)


def path(shift: tuple, turn: float = 0.0, zoom: float = 1.0, where: tuple = (0, 0)) -> tuple:
    """A motion by `shift` pixels from the first frame to the last."""
    shift, where = numpy.array(shift, float), numpy.array(where, float)
    one, two = clips.turned(-turn / 2, zoom**-0.5), clips.turned(turn / 2, zoom**0.5)
    return (one, where - shift / 2), (two, where + shift / 2)


def background(random) -> torch.Tensor:
    return clips.planes(BUSY[random.integers(len(BUSY))](random).clip(0, 255) / 255)


def drawn(random, draw) -> torch.Tensor:
    """A sprite of one colour that `draw` covers."""
    image, pencil = clips.canvas(random, "L")
    draw(random, pencil)
    covered = clips.reduced(image)[:, :, None] / 255
    return clips.planes(numpy.concatenate([covered * numpy.array(clips.colour(random)) / 255, covered], -1))


def lines(random, pencil):
    clips.strokes(random, pencil, lambda: 255)


def words(random, pencil):
    clips.writing(random, pencil, lambda: 255, 6)


def disc(random, pencil):
    middle, radius = clips.TEXTURE, 40 + int(random.integers(60))
    pencil.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=255)


def fence(random, pencil):
    for place in range(0, clips.TEXTURE * clips.FINER, 48):
        pencil.line([(place, 0), (place, clips.TEXTURE * clips.FINER)], fill=255, width=6)


def pan(distance):
    """`distance` pixels from a frame to the new one; level, upright or oblique."""
    def scene(random):
        angle = random.integers(8) * math.pi / 4
        shift = 2 * distance * numpy.array([math.cos(angle), math.sin(angle)])
        return clips.rendered(background(random), [], [path(shift)], 0.5, SIDE)
    return scene


def before(draw, shift, behind=(0, 0)):
    """Something that moves before a background."""
    def scene(random):
        sprite = drawn(random, draw)
        return clips.rendered(background(random), [sprite], [path(behind), path(shift)], 0.5, SIDE)
    return scene


def zoomed(random):
    return clips.rendered(background(random), [], [path((0, 0), zoom=1.08)], 0.5, SIDE)


def turned(random):
    return clips.rendered(background(random), [], [path((0, 0), turn=0.08)], 0.5, SIDE)


def brighter(random):
    frames, flow = pan(3)(random)
    return frames * torch.tensor([0.8, 1.0, 0.9]).view(3, 1, 1, 1), flow


KINDS = {f"pan, {distance} px": pan(distance) for distance in (1, 2, 4, 8, 16, 32)} | {
    "zoom, 8 %": zoomed,
    "rotation, 4.6°": turned,
    "disc, 4 px": before(disc, (8, 2)),
    "disc, 10 px, before a pan": before(disc, (20, 0), (-6, 0)),
    "thin lines, 3 px": before(lines, (6, 2)),
    "text, 3 px": before(words, (6, 0)),
    "fence, 2 px": before(fence, (4, 0)),
    "still text before a pan of 3 px": before(words, (0, 0), (6, 0)),
    "still lines before a pan of 3 px": before(lines, (0, 0), (6, 2)),
    "pan, 3 px, growing brighter": brighter,
}


def bytes_of(frame: torch.Tensor) -> torch.Tensor:
    return (frame.clamp(0, 1) * 255).round()


def squared_error(made: torch.Tensor, truth: torch.Tensor) -> float:
    difference = ((bytes_of(made) - bytes_of(truth)) * LUMA).sum(-3)
    return float((difference[..., BORDER:-BORDER, BORDER:-BORDER] ** 2).mean())


def decibels(errors: list) -> float:
    return 10 * math.log10(255**2 / max(numpy.mean(errors), 1e-3))


class Scores:
    """Errors of one row of the table."""

    def __init__(self, model):
        self.model, self.errors, self.pictures = model, [], []

    def add(self, earlier: torch.Tensor, later: torch.Tensor, truth: torch.Tensor) -> None:
        """Frames of whole bytes, in 0..1, [3, H, W]."""
        ours, blend = network.between(self.model, earlier[None], later[None], 0.5)[0], (earlier + later) / 2
        self.errors.append([squared_error(made, truth) for made in (earlier, blend, ours)])
        if len(self.pictures) < 3:
            self.pictures.append(bytes_of(torch.cat([truth, ours, blend], 2)).byte())

    def row(self, name: str) -> str:
        repeat, blend, ours = [decibels(errors) for errors in zip(*self.errors)]
        return f"| {name} | {repeat:.2f} | {blend:.2f} | {ours:.2f} | {ours - blend:+.2f} |"


def film(path: Path):
    """Its frames, [3, H, W] in 0..1, one by one."""
    asked = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0"]
    size = subprocess.run([*asked, str(path)], check=True, capture_output=True, timeout=60).stdout.decode()
    width, height = [int(side) for side in size.strip().rstrip(",").split(",")[:2]]
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as decoder:
        while len(raw := decoder.stdout.read(3 * width * height)) == 3 * width * height:
            frame = numpy.frombuffer(raw, numpy.uint8).reshape(height, width, 3)
            yield torch.tensor(frame).permute(2, 0, 1).float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).with_name("framewright-interpolate.safetensors")
    parser.add_argument("--weights", type=Path, default=default)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--films", type=Path, nargs="*", default=[])
    parser.add_argument("--every", type=int, default=2, help="of a film, score each so-many-th frame; even")
    arguments = parser.parse_args()
    model = network.load(arguments.weights)
    print("| motion from a frame to the new one | repeat dB | blend dB | model dB | gain dB |\n|---|---|---|---|---|")
    for number, (name, scene) in enumerate(KINDS.items() if not arguments.films else ()):
        scores, random = Scores(model), numpy.random.default_rng([SEED, number])
        for _ in range(COUNT):
            one, two, truth = bytes_of(scene(random)[0]) / 255
            scores.add(one, two, truth)
        print(scores.row(name), flush=True)
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            picture = torch.cat(scores.pictures, 1).permute(1, 2, 0).numpy()
            Image.fromarray(picture).save(arguments.pictures / f"{name.replace(',', '').replace(' ', '-')}.png")
    for path_ in arguments.films:
        scores, last = Scores(model), []
        for index, frame in enumerate(film(path_)):
            last = [*last[-2:], frame]
            if len(last) == 3 and index % arguments.every == 0:
                scores.add(last[0], last[2], last[1])
        print(scores.row(f"{path_.name}, {len(scores.errors)} frames"), flush=True)


if __name__ == "__main__":
    main()
