"""Which smooth and fractal pictures is the upscaler trained on? (pixels.py has the hard-edged ones.)

All are procedural and move, and are made here from random numbers. `clip(kinds, random, size, frames)` picks a kind of
scene. A kind is a function of (random, size) that returns `frame(time)`, f32 [size, size, 3] in 0..1, for times 0, 1,
2, ... None of ffmpeg's sources is used, nor the rule of any: no Mandelbrot set, no Game of Life, no automaton of
radius 1, no Sierpinski figure, no test card.
"""

import math

import numpy


def palette(random, count):
    """`count` colours; often black and white or grey, as on screens."""
    style = random.choice(4, p=[0.4, 0.2, 0.15, 0.25])
    colours = random.random((count, 3))
    if style == 0:
        colours = numpy.repeat(random.permutation(numpy.linspace(0, 1, count))[:, None], 3, 1)
    elif style == 1:
        colours = numpy.round(colours)
    elif style == 2:
        colours = numpy.repeat(colours[:, :1], 3, 1)
    return colours.astype(numpy.float32)


def coloured(random, cyclic=None):
    """A function from values in 0..1 to colours: smooth through some stops, or in hard bands."""
    count = int(random.integers(2, 7))
    stops, bands = palette(random, count), random.random() < 0.25
    repeats = random.choice([1, 1, 2, 5]) if cyclic is None else cyclic

    def paint(values):
        values = values * repeats
        values = 1 - abs(values % 2 - 1)
        if bands:
            return stops[numpy.clip((values * count).astype(int), 0, count - 1)]
        position = numpy.linspace(0, 1, count)
        return numpy.stack([numpy.interp(values, position, stops[:, c]) for c in range(3)], -1)

    return paint


def plane(random, size, zoom=(-1.0, 1.0)):
    """A moving camera: at a time, the coordinates of each pixel, about -1..1 at zoom 1."""
    angle, scale = random.uniform(0, 2 * math.pi), math.exp(random.uniform(*zoom))
    start, speed = random.normal(0, 0.5, 2), random.normal(0, 0.03, 2)
    spin, grow = random.normal(0, 0.03), random.normal(0, 0.02)
    rows, columns = numpy.mgrid[0:size, 0:size] * (2 / size) - 1

    def at(time):
        turn, zoomed = angle + spin * time, scale * math.exp(grow * time)
        across, down = columns * zoomed, rows * zoomed
        x = math.cos(turn) * across - math.sin(turn) * down + start[0] + speed[0] * time
        return x, math.sin(turn) * across + math.cos(turn) * down + start[1] + speed[1] * time

    return at


def ramp(random, size):
    """Smooth gradients: straight, round or around a point; wide, so that rounding to 8 bits shows."""
    at, stops = plane(random, size, (-2.0, 0.5)), palette(random, int(random.integers(2, 5)))
    if random.random() < 0.7:
        stops = random.random(stops.shape)
    kind, position = random.integers(3), numpy.linspace(-1.5, 1.5, len(stops))

    def frame(time):
        x, y = at(time)
        value = [x, numpy.hypot(x, y) * 2 - 1.5, numpy.arctan2(y, x) / math.pi * 1.5][kind]
        return numpy.stack([numpy.interp(value, position, stops[:, c]) for c in range(3)], -1)

    return frame


def plasma(random, size):
    """Sums of sines, from very slow to near the pixel grid."""
    at, paint = plane(random, size), coloured(random)
    waves = random.normal(0, math.exp(random.uniform(0, 3.5)), (random.integers(1, 6), 2))
    phases = random.uniform(0, 6.3, len(waves))

    def frame(time):
        x, y = at(time)
        value = sum(numpy.sin(a * x + b * y + p + 0.1 * time) for (a, b), p in zip(waves, phases))
        return paint(value / len(waves) / 2 + 0.5)

    return frame


def noise_at(random, octaves, fall):
    """Value noise of several octaves over the plane, about 0..1."""
    grid = random.random((64, 64))

    def value(x, y):
        total, weight, amplitude = 0.0, 0.0, 1.0
        for octave in range(octaves):
            u, v = (x * 2**octave + 7 * octave) % 64, (y * 2**octave + 3 * octave) % 64
            i, j = u.astype(int) % 64, v.astype(int) % 64
            a, b = u - numpy.floor(u), v - numpy.floor(v)
            a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
            k, m = (i + 1) % 64, (j + 1) % 64
            mixed = (grid[j, i] * (1 - a) + grid[j, k] * a) * (1 - b) + (grid[m, i] * (1 - a) + grid[m, k] * a) * b
            total, weight, amplitude = total + amplitude * mixed, weight + amplitude, amplitude * fall
        return total / weight

    return value


def noise(random, size):
    """Clouds, marble and terrain: fractal noise, warped by itself now and then."""
    at, paint = plane(random, size, (-0.5, 1.5)), coloured(random)
    value = noise_at(random, int(random.integers(1, 8)), random.uniform(0.3, 0.9))
    warp = random.choice([0.0, 0.0, 1.0, 3.0])

    def frame(time):
        x, y = at(time)
        bend = warp * value(y + 11, x + 5) if warp else 0.0
        return paint(numpy.clip(value(x + bend, y + bend) * 1.6 - 0.3, 0, 1))

    return frame


def basins(random, size):
    """Newton's method for z^n = c: fractal borders with filaments of one pixel and smooth insides."""
    at, paint, power = plane(random, size, (-3.0, 0.7)), coloured(random), int(random.integers(3, 7))
    relax, steps, by_root = random.uniform(0.8, 1.5), int(random.integers(6, 24)), random.random() < 0.3

    def frame(time):
        x, y = at(time)
        z = x + 1j * y + 1e-6
        closeness = numpy.zeros_like(x)
        for _ in range(steps):
            step = relax * (z**power - 1) / (power * z ** (power - 1) + 1e-12)
            z = numpy.clip((z - step).real, -1e3, 1e3) + 1j * numpy.clip((z - step).imag, -1e3, 1e3)
            closeness += numpy.exp(-numpy.minimum(abs(step), 50))
        value = numpy.angle(z) / (2 * math.pi) + 0.5 if by_root else closeness / steps
        return paint(value)

    return frame


def gratings(random, size):
    """Stripes, checkers, rings, spirals and moire of two of them; hard or soft."""
    at, paint, hard = plane(random, size), coloured(random, 1), random.random() < 0.6
    kinds, pitch = random.integers(0, 6, 2), numpy.exp(random.uniform(0.5, 4.3, 2))
    both, arms = random.random() < 0.3, int(random.integers(1, 9))

    def wave(kind, x, y, pitch):
        radius, angle = numpy.hypot(x, y), numpy.arctan2(y, x)
        return [
            lambda: numpy.sin(pitch * x),
            lambda: numpy.sin(pitch * x) * numpy.sin(pitch * y),
            lambda: numpy.sin(pitch * radius),
            lambda: numpy.sin(pitch * radius + arms * angle),
            lambda: numpy.sin(pitch * radius**2),
            lambda: numpy.sin(pitch * numpy.log(radius + 1e-3) / 2 + arms * angle),
        ][kind]()

    def frame(time):
        x, y = at(time)
        value = wave(kinds[0], x, y, pitch[0])
        if both:
            value = value * wave(kinds[1], x + 0.1 * time, y, pitch[1])
        return paint((value > 0) * 1.0 if hard else value / 2 + 0.5)

    return frame


def clip(kinds, random, size, frames):
    """u8 [frames, size, size, 3] of one of `kinds`; often with less contrast, or another gamma."""
    frame = kinds[random.integers(len(kinds))](random, size)
    low, high = sorted(random.random(2)) if random.random() < 0.3 else (0.0, 1.0)
    gamma = math.exp(random.normal(0, 0.3)) if random.random() < 0.3 else 1.0
    made = [numpy.clip(frame(time), 0, 1) ** gamma * (high - low) + low for time in range(frames)]
    return numpy.round(numpy.stack(made) * 255).astype(numpy.uint8)
