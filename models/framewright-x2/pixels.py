"""Which hard-edged scenes is the upscaler trained on? Single pixels, own automata, mosaics, shapes, text, mixtures."""

import numpy
from PIL import Image, ImageDraw, ImageFont

import scenes
from scenes import palette

LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?+-*/=()[]{}<>#%&")


def blocks(cells, block, size):
    """Cells as squares of `block` pixels."""
    return cells.repeat(block, 0).repeat(block, 1)[:size, :size]


def block_size(random):
    return int(random.choice([1, 1, 1, 1, 2, 3, 4]))


def dots(random, size):
    """Independent cells of a few colours, of any density, that drift or twinkle."""
    block, count = block_size(random), int(random.choice([2, 2, 2, 3, 4]))
    colours, chance = palette(random, count), random.random() ** 2
    share = numpy.array([1 - chance] + [chance / (count - 1)] * (count - 1))
    cells = random.choice(count, (size, size), p=share)
    step, twinkle = random.integers(-2, 3, 2), random.random() < 0.5

    def frame(time):
        now = numpy.roll(cells, step * time, (0, 1))
        if twinkle:
            now = numpy.where((cells * 7 + numpy.arange(size) * 13 + time) % 5 == 0, 0, now)
        return colours[blocks(now, block, size)]

    return frame


def islands(random, size):
    """Noise cut at a level, on the pixel grid: coasts, caves, camouflage."""
    block, colours = block_size(random), palette(random, 2)
    field, reach = random.random((size, size)), int(random.integers(1, 4))
    spread = sum(numpy.roll(field, (i, j), (0, 1)) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1))
    field = spread / (2 * reach + 1) ** 2 + random.choice([0.0, 0.1, 0.3]) * random.random((size, size))
    levels = numpy.quantile(field, random.uniform(0.1, 0.9) + numpy.linspace(-0.08, 0.08, 8))

    def frame(time):
        return colours[blocks((field > levels[time % 8]).astype(int), block, size)]

    return frame


def crosses(random, size):
    """A random totalistic rule on a cell and its four edge neighbours (not Life, which counts eight)."""
    block, colours = block_size(random), palette(random, 2)
    table, cells = random.integers(0, 2, (2, 5)), (random.random((size, size)) < random.random()).astype(int)
    states = []
    for _ in range(random.integers(1, 12) + 8):
        near = sum(numpy.roll(cells, shift, axis) for shift in (-1, 1) for axis in (0, 1))
        cells = table[cells, near]
        states.append(cells)
    return lambda time: colours[blocks(states[time - 8], block, size)]


def weaves(random, size):
    """Rows that follow one another by a random rule of radius 2 (not 1, as elementary automata have); scrolls."""
    block, colours, table = block_size(random), palette(random, 2), random.random(32) < random.uniform(0.3, 0.7)
    row, rows = (random.random(size) < random.random()).astype(int), []
    for _ in range(size + 32):
        rows.append(row)
        row = table[sum(numpy.roll(row, shift) << (shift + 2) for shift in range(-2, 3))].astype(int)
    picture, speed, turned = numpy.stack(rows), int(random.integers(0, 4)), random.random() < 0.3

    def frame(time):
        part = picture[speed * time % 32 :][:size]
        return colours[blocks(part.T if turned else part, block, size)]

    return frame


def mosaic(random, size):
    """A tile substitution: each of three or more tiles becomes a block of tiles, several times over."""
    kinds, side = int(random.integers(3, 6)), int(random.integers(2, 5))
    rules, colours = random.integers(0, kinds, (kinds, side, side)), palette(random, kinds)
    tiles = numpy.array([[random.integers(kinds)]])
    while len(tiles) < 2 * size:
        tiles = rules[tiles].transpose(0, 2, 1, 3).reshape(len(tiles) * side, -1)
    corner, step = random.integers(0, len(tiles) - size, 2), random.integers(-3, 4, 2)

    def frame(time):
        top, left = numpy.clip(corner + step * time, 0, len(tiles) - size)
        return colours[tiles[top : top + size, left : left + size]]

    return frame


def shapes(random, size):
    """Polygons, ellipses, lines and boxes; with stair-stepped or with smooth edges."""
    finer, count = int(random.choice([1, 1, 2, 4])), int(random.integers(3, 30))
    colours = numpy.round(palette(random, count + 1) * 255).astype(int)
    points, speed = random.uniform(-0.1, 1.1, (count, 5, 2)), random.normal(0, 0.01, (count, 1, 2))
    kinds, widths = random.integers(0, 5, count), random.integers(1, 4, count)
    shrink = random.choice([0.1, 0.3, 1.0], (count, 1, 1))
    points = points[:, :1] + (points - points[:, :1]) * shrink

    def frame(time):
        image = Image.new("RGB", (size * finer, size * finer), tuple(colours[-1]))
        draw = ImageDraw.Draw(image)
        for kind, width, colour, corners in zip(kinds, widths, colours, (points + speed * time) * size * finer):
            fill, corners = tuple(int(value) for value in colour), [tuple(corner) for corner in corners]
            box = [tuple(numpy.min(corners[:2], 0)), tuple(numpy.max(corners[:2], 0))]
            if kind == 0:
                draw.polygon(corners[:3], fill=fill)
            elif kind == 1:
                draw.polygon(corners, fill=fill)
            elif kind == 2:
                draw.ellipse(box, fill=fill if width > 1 else None, outline=fill, width=finer)
            elif kind == 3:
                draw.line(corners[:3], fill=fill, width=int(width) * finer)
            else:
                draw.rectangle(box, fill=fill if width > 1 else None, outline=fill, width=finer)
        return numpy.asarray(image.reduce(finer) if finer > 1 else image, numpy.float32) / 255

    return frame


def strokes(random, size):
    """Glyphs of an invented script: hard strokes between the points of a small grid, in rows."""
    pitch, count, block = int(random.integers(4, 12)), 24, int(random.choice([1, 1, 2, 3]))
    colours, reach = palette(random, 2), -(-size // block)
    glyphs = []
    for _ in range(count):
        image = Image.new("L", (pitch, pitch + 2))
        ends = random.integers(0, pitch - 1, (random.integers(2, 5), 2))
        ends = numpy.round(ends / max(pitch // 3, 1)) * max(pitch // 3, 1)
        ImageDraw.Draw(image).line([tuple(end) for end in ends], fill=1)
        glyphs.append(numpy.asarray(image, int))
    text = random.integers(0, count, (reach // (pitch + 2) + 2, reach // pitch + 2))
    page = numpy.concatenate([numpy.concatenate([glyphs[g] for g in line], 1) for line in text], 0)
    return lambda time: colours[blocks(numpy.roll(page, -time, 1), block, size)]


def text(random, size):
    """Lines of random letters in Pillow's own outline font, or its bitmap font, whole or as big hard pixels."""
    bitmap, block = random.random() < 0.5, int(random.choice([1, 1, 2, 3]))
    font = ImageFont.load_default_imagefont() if bitmap else ImageFont.load_default(random.uniform(7, 40))
    height = 12 if bitmap else int(font.size * 1.2) + 1
    colours, reach = palette(random, 2), -(-size // block)
    if abs(colours[0] - colours[1]).max() < 0.3:
        colours[1] = 1 - numpy.round(colours[0])
    lines = ["".join(random.choice(LETTERS, 40)) for _ in range(reach // height + 2)]
    offset, step = random.uniform(-30, 0), random.normal(0, 1)
    hard = bitmap or random.random() < 0.3

    def frame(time):
        image = Image.new("L", (reach, reach))
        draw = ImageDraw.Draw(image)
        draw.fontmode = "1" if hard else "L"
        for number, line in enumerate(lines):
            left = offset + step * time
            draw.text((round(left) if bitmap else left, number * height), line, fill=255, font=font)
        ink = blocks(numpy.asarray(image, numpy.float32) / 255, block, size)[..., None]
        return colours[0] * (1 - ink) + colours[1] * ink

    return frame


def mixture(random, size):
    """Two scenes in one picture: in panels, within a moving disc, or blended."""
    first, second = (KINDS[random.integers(len(KINDS) - 2)](random, size) for _ in range(2))
    style, middle, speed = random.integers(3), random.uniform(0.2, 0.8, 2) * size, random.normal(0, 2, 2)
    radius, share = random.uniform(0.1, 0.5) * size, random.random()
    rows, columns = numpy.mgrid[0:size, 0:size]

    def frame(time):
        top, left = middle + speed * time
        disc = numpy.hypot(rows - top, columns - left) < radius
        mask = [(rows > top) ^ (columns > left), disc, share][style]
        mask = numpy.asarray(mask, numpy.float32)[..., None]
        return first(time) * (1 - mask) + second(time) * mask

    return frame


SMOOTH = [scenes.ramp, scenes.ramp, scenes.plasma, scenes.noise, scenes.basins, scenes.gratings]
HARD = [dots, islands, crosses, weaves, mosaic, shapes, shapes, strokes, text]
KINDS = SMOOTH + HARD + [mixture, mixture]
