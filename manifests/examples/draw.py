#!/usr/bin/env python3
"""Draws the two files that the examples work on: a lighthouse at dusk, as a clip of two seconds with sound, and as a poster.

    python3 manifests/examples/draw.py      # needs Pillow and ffmpeg with libx264

Everything is drawn at eight times the size and then reduced, so that the small pictures hold real detail for an upscaler to
find again. The files are committed, since another ffmpeg writes other bytes; `make generate` takes their digests from them.
"""

import math
import random
import subprocess
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

HERE = Path(__file__).parent
OVER = 8  # drawn so many times larger
RATE, FRAMES = 24, 48


def mix(a, b, share):
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))


def picture(width, height, moment):
    """The scene at a moment from 0 to 1, in pixels of the reduced size."""
    w, h = width * OVER, height * OVER
    horizon = round(h * 0.72)
    image = Image.new("RGB", (w, h))
    draw = ImageDraw.Draw(image)
    for y in range(horizon):
        draw.line([(0, y), (w, y)], fill=mix((24, 28, 74), (244, 148, 96), (y / horizon) ** 1.7))
    dice = random.Random(7)
    for _ in range(90):
        x, y, size = dice.random() * w, dice.random() ** 1.6 * horizon * 0.7, h * (0.002 + 0.0035 * dice.random())
        draw.ellipse([x - size, y - size, x + size, y + size], fill=(255, 250, 235))
    sun = (w * 0.24, horizon - h * 0.05, h * 0.11)
    draw.ellipse([sun[0] - sun[2], sun[1] - sun[2], sun[0] + sun[2], sun[1] + sun[2]], fill=(255, 222, 150))
    beam(image, w, h, moment)
    draw = ImageDraw.Draw(image)
    sea(draw, w, h, horizon, moment, range(12))
    rocks(draw, w, h, horizon)
    sea(draw, w, h, horizon, moment, range(12, 26))
    lighthouse(draw, w, h)
    return image.resize((width, height), Image.Resampling.BOX)


def lamp(w, h):
    return w * 0.685, h * 0.215


def beam(image, w, h, moment):
    x, y = lamp(w, h)
    turn = math.pi * (1.06 + 0.13 * math.sin(2 * math.pi * moment))
    mask = Image.new("L", image.size)
    far, spread = w * 1.2, 0.075
    points = [(x, y)] + [(x + far * math.cos(turn + s), y + far * math.sin(turn + s)) for s in (-spread, spread)]
    ImageDraw.Draw(mask).polygon(points, fill=110)
    mask = mask.filter(ImageFilter.GaussianBlur(OVER))
    image.paste(Image.new("RGB", image.size, (255, 244, 200)), mask=mask)


def sea(draw, w, h, horizon, moment, rows):
    for row in rows:
        depth = row / 25
        top = horizon + (h - horizon) * depth**1.35 * 0.96
        height, length = h * (0.003 + 0.012 * depth), w * (0.03 + 0.10 * depth)
        phase = 2 * math.pi * (moment * (1 + row % 3) + row * 0.37)
        line = [(x, top + height * math.sin(2 * math.pi * x / length + phase)) for x in range(0, w + OVER, OVER)]
        colour = mix((214, 128, 104), (16, 32, 66), min(1, depth * 1.15 + 0.12 * (row % 2)))
        draw.polygon(line + [(w, h), (0, h)], fill=colour)
        if row % 2:
            draw.line(line, fill=mix(colour, (255, 236, 214), 0.55), width=max(2, round(h * 0.0035)))


def rocks(draw, w, h, horizon):
    dice = random.Random(3)
    for layer, colour in enumerate([(52, 44, 60), (34, 30, 44), (22, 20, 32)]):
        top = horizon - h * (0.05 - 0.035 * layer)
        points = [(w * (0.47 + 0.46 * step / 14), top + h * 0.05 * dice.random() + h * 0.14 * abs(step / 7 - 1) ** 3) for step in range(15)]
        draw.polygon(points + [(w * 0.97, h * 0.86), (w * 0.44, h * 0.86)], fill=colour)


def lighthouse(draw, w, h):
    x, lamp_y = lamp(w, h)
    foot, top = h * 0.70, h * 0.27
    half = lambda y: h * (0.042 + 0.03 * (y - top) / (foot - top))
    for stripe in range(6):
        a, b = top + (foot - top) * stripe / 6, top + (foot - top) * (stripe + 1) / 6
        quad = [(x - half(a), a), (x + half(a), a), (x + half(b), b), (x - half(b), b)]
        draw.polygon(quad, fill=(196, 44, 46) if stripe % 2 else (240, 234, 224))
        shade = [(x + half(a) * 0.35, a), (x + half(a), a), (x + half(b), b), (x + half(b) * 0.35, b)]
        draw.polygon(shade, fill=(140, 26, 36) if stripe % 2 else (196, 186, 184))
        if stripe in (1, 3, 5):
            y, s = (a + b) / 2, h * 0.012
            draw.rectangle([x - s, y - 1.6 * s, x + s, y + 1.6 * s], fill=(255, 214, 120))
            draw.line([(x, y - 1.6 * s), (x, y + 1.6 * s)], fill=(60, 30, 34), width=max(2, round(h * 0.003)))
            draw.line([(x - s, y), (x + s, y)], fill=(60, 30, 34), width=max(2, round(h * 0.003)))
    thin = max(2, round(h * 0.0045))
    rail, wide = h * 0.262, h * 0.062
    draw.rectangle([x - wide, rail, x + wide, rail + h * 0.014], fill=(40, 34, 46))
    for post in range(-5, 6):
        draw.line([(x + wide * post / 5, rail - h * 0.022), (x + wide * post / 5, rail)], fill=(40, 34, 46), width=thin)
    draw.line([(x - wide, rail - h * 0.022), (x + wide, rail - h * 0.022)], fill=(40, 34, 46), width=thin)
    room = h * 0.034
    draw.rectangle([x - room, lamp_y - h * 0.036, x + room, rail], fill=(255, 246, 208))
    for pane in (-1, -0.33, 0.33, 1):
        draw.line([(x + room * pane, lamp_y - h * 0.036), (x + room * pane, rail)], fill=(40, 34, 46), width=thin)
    roof = lamp_y - h * 0.036
    draw.polygon([(x - room * 1.35, roof), (x + room * 1.35, roof), (x, roof - h * 0.058)], fill=(150, 30, 38))
    draw.line([(x, roof - h * 0.10), (x, roof - h * 0.055)], fill=(40, 34, 46), width=thin)


def clip(width, height, path):
    sound = "sine=frequency=%d:sample_rate=48000:duration=2"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(RATE)]
    command += ["-i", "-", "-f", "lavfi", "-i", sound % 220, "-f", "lavfi", "-i", sound % 330]
    command += ["-filter_complex", "[1:a][2:a]amix=inputs=2,afade=t=in:d=0.2,afade=t=out:st=1.6:d=0.4[sound]"]
    command += ["-map", "0:v", "-map", "[sound]", "-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "veryslow", "-crf", "12"]
    command += ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
    command += ["-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", "-fflags", "+bitexact"]
    command += ["-flags:v", "+bitexact", "-flags:a", "+bitexact", str(path)]
    frames = b"".join(picture(width, height, frame / FRAMES).tobytes() for frame in range(FRAMES))
    subprocess.run(command, input=frames, check=True, timeout=300)


if __name__ == "__main__":
    clip(192, 108, HERE / "clip.mp4")
    picture(320, 180, 0.2).save(HERE / "poster.png", optimize=True)
