"""What the interpolator is trained on: clips of moving layers, with the true flow. All is drawn from random numbers.

A clip is a background and some sprites: shapes, thin lines, fences, text, shadows. Each has a texture and moves by an
affine motion that is linear in time, so the frame at any time and its flow to both ends are known exactly.
"""

import functools
import io
import math

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn.functional import avg_pool2d, grid_sample, pad

SIDE = 160  # of a frame
TEXTURE = 256  # side of a texture
FINER = 2  # frames and textures are drawn so much larger and reduced, so that edges are smooth at any position
FASTEST = 16.0  # pixels from the first frame to the last, of the camera and again of what moves before it
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?+-*/=()")


def colour(random) -> tuple:
    if random.random() < 0.3:
        return (int(random.choice([0, 20, 128, 235, 255])),) * 3
    return tuple(int(value) for value in random.integers(0, 256, 3))


def field(random, slope: float) -> numpy.ndarray:
    """Noise in 0..1 whose spectrum falls with this power of the frequency."""
    waves = numpy.fft.rfft2(random.normal(size=(TEXTURE, TEXTURE)))
    down, across = numpy.fft.fftfreq(TEXTURE)[:, None], numpy.fft.rfftfreq(TEXTURE)[None]
    noise = numpy.fft.irfft2(waves / numpy.maximum(numpy.hypot(down, across), 1 / TEXTURE) ** slope)
    return (noise - noise.min()) / (noise.max() - noise.min())


def painted(random, values: numpy.ndarray) -> numpy.ndarray:
    """Values in 0..1 as colours between some stops."""
    stops = numpy.array([colour(random) for _ in range(random.integers(2, 6))])
    places = numpy.linspace(0, 1, len(stops))
    return numpy.stack([numpy.interp(values, places, stops[:, c]) for c in range(3)], -1)


def noise(random) -> numpy.ndarray:
    return painted(random, field(random, random.uniform(0.7, 2.5)))


def camouflage(random) -> numpy.ndarray:
    values = field(random, random.uniform(1.2, 2.5))
    sharp = random.uniform(8, 40)
    return painted(random, 1 / (1 + numpy.exp(-sharp * (values - numpy.median(values)))))


def canvas(random, mode: str = "RGB") -> tuple:
    side = TEXTURE * FINER
    image = Image.new(mode, (side, side), colour(random) if mode == "RGB" else 0)
    return image, ImageDraw.Draw(image)


def reduced(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image.reduce(FINER), numpy.float64)


def corners(random, centre, size: float, count: int) -> list:
    angles = numpy.sort(random.uniform(0, 2 * math.pi, count))
    lengths = size * random.uniform(0.4, 1.0, count)
    return [(centre[0] + r * math.cos(a), centre[1] + r * math.sin(a)) for r, a in zip(lengths, angles)]


def leaves(random) -> numpy.ndarray:
    """Many things before one another, small ones and large ones: what pictures of the world are like."""
    image, draw = canvas(random)
    smallest = random.uniform(3, 10)
    for _ in range(int(random.integers(60, 350))):
        size = min(smallest / random.random() ** 0.6, 140)
        x, y = random.uniform(0, TEXTURE * FINER, 2)
        if random.random() < 0.5:
            draw.ellipse([x - size, y - size * 0.7, x + size, y + size * 0.7], fill=colour(random))
        else:
            draw.polygon(corners(random, (x, y), size * 1.3, int(random.integers(3, 7))), fill=colour(random))
    shade = 0.6 + 0.6 * field(random, random.uniform(0.8, 1.8))[:, :, None]
    return reduced(image) * (shade if random.random() < 0.6 else 1)


def pattern(random) -> numpy.ndarray:
    """What repeats: stripes, checks, bricks, dots."""
    rows, columns = numpy.mgrid[0:TEXTURE, 0:TEXTURE].astype(float)
    angle, period = random.uniform(0, math.pi), math.exp(random.uniform(math.log(5), math.log(60)))
    x = (columns * math.cos(angle) + rows * math.sin(angle)) / period
    y = (rows * math.cos(angle) - columns * math.sin(angle)) / period * random.uniform(0.5, 2)
    sharp, kind = random.uniform(1, 8), random.integers(4)
    if kind == 0:
        values = numpy.sin(2 * math.pi * x)
    elif kind == 1:
        values = numpy.sin(2 * math.pi * x) * numpy.sin(2 * math.pi * y) * 2
    elif kind == 2:
        shifted = x + 0.5 * (numpy.floor(y) % 2)
        values = 0.7 - 1.4 * ((shifted % 1 < 0.08) | (y % 1 < 0.12))
    else:
        values = 1 - 5 * ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2) * 2
    values = 0.5 + 0.5 * numpy.tanh(sharp * values)
    uneven = random.uniform(0, 0.3) * field(random, 1.5)
    return painted(random, numpy.clip(values * 0.8 + uneven, 0, 1))


def writing(random, draw, ink, many: int) -> None:
    for _ in range(many):
        size = float(random.uniform(14, 90))
        words = "".join(random.choice(LETTERS + [" "] * 12, int(random.integers(3, 24))))
        place = random.uniform(-60, TEXTURE * FINER - 60, 2)
        draw.text(tuple(place), words, fill=ink(), font=ImageFont.load_default(size))


def page(random) -> numpy.ndarray:
    image, draw = canvas(random)
    inks = [colour(random) for _ in range(2)]
    writing(random, draw, lambda: inks[random.integers(2)], int(random.integers(10, 40)))
    return reduced(image)


def strokes(random, draw, ink) -> None:
    """Thin lines, about a pixel or two wide."""
    for _ in range(int(random.integers(2, 25))):
        ends = [tuple(random.uniform(0, TEXTURE * FINER, 2)) for _ in range(2)]
        draw.line(ends, fill=ink(), width=int(random.integers(1, 6)) * FINER // 2 + 1)


def wires(random) -> numpy.ndarray:
    image, draw = canvas(random)
    image.paste(Image.fromarray(smooth(random).astype(numpy.uint8)).resize(image.size))
    strokes(random, draw, lambda: colour(random))
    return reduced(image)


def smooth(random) -> numpy.ndarray:
    return painted(random, field(random, random.uniform(2.5, 3.5)))


TEXTURES = (noise, noise, camouflage, leaves, leaves, leaves, leaves, pattern, page, wires, smooth)


def texture(random) -> numpy.ndarray:
    """[TEXTURE, TEXTURE, 3] in 0..1."""
    picture = TEXTURES[random.integers(len(TEXTURES))](random)
    if random.random() < 0.3:
        share = random.uniform(0.1, 0.5)
        picture = picture * (1 - share) + noise(random) * share
    middle, contrast = picture.mean(), random.uniform(0.4, 1.1)
    return numpy.clip((picture - middle) * contrast + middle + random.normal(0, 12), 0, 255) / 255


def outline(random) -> numpy.ndarray:
    """What a sprite covers, [TEXTURE, TEXTURE] in 0..1."""
    image, draw = canvas(random, "L")
    side, kind = TEXTURE * FINER, random.integers(8)
    middle, size = (side / 2, side / 2), math.exp(random.uniform(math.log(30), math.log(side / 2)))
    if kind <= 1:
        width, height = size * random.uniform(0.3, 1), size * random.uniform(0.3, 1)
        draw.ellipse([side / 2 - width, side / 2 - height, side / 2 + width, side / 2 + height], fill=255)
        if random.random() < 0.3:
            inner = random.uniform(0.5, 0.95)
            width, height = width * inner, height * inner
            draw.ellipse([side / 2 - width, side / 2 - height, side / 2 + width, side / 2 + height], fill=0)
    elif kind <= 3:
        draw.polygon(corners(random, middle, size, int(random.integers(3, 10))), fill=255)
    elif kind == 4:
        values = field(random, 2.5)
        rows, columns = numpy.mgrid[0:TEXTURE, 0:TEXTURE] - TEXTURE / 2
        values = values - 0.5 * (numpy.hypot(rows, columns) / (size / FINER)) ** 2
        return numpy.clip((values - 0.25) * 20, 0, 1)
    elif kind == 5:
        strokes(random, draw, lambda: 255)
    elif kind == 6:
        writing(random, draw, lambda: 255, int(random.integers(1, 8)))
    else:
        gap, width = int(random.integers(12, 90)), int(random.integers(2, 8))
        for place in range(0, side, gap):
            draw.line([(place, 0), (place, side)], fill=255, width=width)
            if random.random() < 0.5:
                draw.line([(0, place), (side, place)], fill=255, width=width)
    return reduced(image) / 255


def sprite(random) -> torch.Tensor:
    """A texture and what of it is seen, [4, TEXTURE, TEXTURE], colours multiplied by the last plane."""
    covered = outline(random)[:, :, None]
    if random.random() < 0.5:
        colours = numpy.broadcast_to(numpy.array(colour(random)) / 255, covered.shape[:2] + (3,))
    else:
        colours = texture(random)
    if random.random() < 0.08:  # a shadow, or glass
        covered = covered * random.uniform(0.2, 0.6)
    return planes(numpy.concatenate([colours * covered, covered], -1))


def planes(picture: numpy.ndarray) -> torch.Tensor:
    return torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1).contiguous()


def speed(random, fastest: float) -> numpy.ndarray:
    """Pixels from the first frame to the last, in any direction."""
    if random.random() < 0.12:
        return numpy.zeros(2)
    length, angle = math.exp(random.uniform(math.log(0.3), math.log(fastest))), random.uniform(0, 2 * math.pi)
    if random.random() < 0.3:  # pans are level or upright
        angle = round(angle / (math.pi / 2)) * math.pi / 2
    return length * numpy.array([math.cos(angle), math.sin(angle)])


def turned(angle: float, zoom: float) -> numpy.ndarray:
    return zoom * numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def motion(random, shared: numpy.ndarray, own: float, place: float) -> tuple:
    """At both ends: a matrix and a shift that take a point of the texture to a point of the frame, from the middle."""
    start = turned(random.uniform(0, 2 * math.pi) if random.random() < 0.6 else 0, math.exp(random.normal(0, 0.25)))
    turn = random.normal(0, 0.06) if random.random() < 0.3 else 0
    grow = math.exp(random.normal(0, 0.06)) if random.random() < 0.3 else 1
    # Things are where they are at half time, so that fast ones are seen.
    where, path = random.normal(0, place, 2), (shared + speed(random, own) if own else shared)
    return (start, where - path / 2), (turned(turn, grow) @ start, where + path / 2)


def at(ends: tuple, time: float) -> tuple:
    (first, one), (last, two) = ends
    return first * (1 - time) + last * time, one * (1 - time) + two * time


@functools.cache
def places(side: int, step: float) -> numpy.ndarray:
    """Pixel centres, [2, side, side], x and y, in frame pixels from the middle."""
    line = (numpy.arange(side) + 0.5) * step - side * step / 2
    return numpy.stack(numpy.meshgrid(line, line, indexing="xy"))


def seen(layer: torch.Tensor, ends: tuple, times: list, padding: str, side: int) -> torch.Tensor:
    """The layer at these times, [times, planes, side, side]."""
    grids, fine = [], places(side * FINER, 1 / FINER)
    for time in times:
        matrix, shift = at(ends, time)
        points = numpy.tensordot(numpy.linalg.inv(matrix), fine - shift[:, None, None], 1) * (2 / TEXTURE)
        grids.append(torch.tensor(points.transpose(1, 2, 0), dtype=torch.float32))
    pictures = layer[None].expand(len(times), -1, -1, -1)
    large = grid_sample(pictures, torch.stack(grids), padding_mode=padding, align_corners=False)
    return avg_pool2d(large, FINER)


def true_flow(ends: tuple, time: float, side: int) -> numpy.ndarray:
    """From each pixel at `time` to the same point of the layer in the first and in the last frame, [4, side, side]."""
    (matrix, shift), coarse = at(ends, time), places(side, 1)
    points = numpy.tensordot(numpy.linalg.inv(matrix), coarse - shift[:, None, None], 1)
    flows = []
    for end, moved in ends:
        flows.append(numpy.tensordot(end, points, 1) + moved[:, None, None] - coarse)
    return numpy.concatenate(flows)


def rendered(background: torch.Tensor, sprites: list, ends: list, time: float, side: int = SIDE) -> tuple:
    """Frames at 0, 1 and `time`, [3, 3, side, side], and the flow at `time`."""
    times = [0.0, 1.0, time]
    frames = seen(background, ends[0], times, "reflection", side)
    flow = torch.tensor(true_flow(ends[0], time, side))
    for layer, path in zip(sprites, ends[1:]):
        shown = seen(layer, path, times, "zeros", side)
        frames = frames * (1 - shown[:, 3:]) + shown[:, :3]
        flow = torch.where(shown[2, 3:] > 0.5, torch.tensor(true_flow(path, time, side)), flow)
    return frames, flow


def compressed(random, frame: torch.Tensor) -> torch.Tensor:
    stream = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=int(random.integers(40, 95)))
    return torch.tensor(numpy.asarray(Image.open(stream))).permute(2, 0, 1)


def clip(random, backgrounds: list, sprites: list, fastest: float) -> tuple:
    """Frames at 0, 1 and a time between, u8 [3, 3, SIDE, SIDE]; the flow at that time; the time."""
    time = 0.5 if random.random() < 0.5 else float(random.uniform(0.02, 0.98))
    camera = speed(random, fastest)
    ends = [motion(random, camera, 0, 30.0)]
    chosen = []
    for _ in range(int(random.choice([0, 1, 1, 2, 2, 3, 4]))):
        chosen.append(sprites[random.integers(len(sprites))])
        ends.append(motion(random, camera if random.random() < 0.6 else 0 * camera, random.choice([0, fastest / 2, fastest]), 40.0))
    if random.random() < 0.2:  # a caption, a logo
        chosen.append(sprites[random.integers(len(sprites))])
        where = random.normal(0, 30, 2)
        ends.append(((numpy.eye(2) * 0.8, where),) * 2)
    frames, flow = rendered(backgrounds[random.integers(len(backgrounds))], chosen, ends, time)
    if random.random() < 0.15:
        frames = avg_pool2d(pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
    if random.random() < 0.12:  # bars above and below
        bar = int(random.integers(4, 40))
        frames[:, :, SIDE - bar :] = 0
        flow[:, SIDE - bar :] = 0
        if random.random() < 0.5:
            frames[:, :, :bar], flow[:, :bar] = 0, 0
    if random.random() < 0.15:  # light changes
        gain = numpy.exp(random.normal(0, 0.15, 2))
        for index, now in enumerate((gain[0], gain[1], gain[0] * (1 - time) + gain[1] * time)):
            frames[index] *= float(now)
    if random.random() < 0.2:  # of film: on what is seen, not on what is wanted
        frames[:2] += torch.tensor(random.normal(0, random.uniform(0.004, 0.03), (2, 3, SIDE, SIDE)), dtype=torch.float32)
    frames = (frames.clamp(0, 1) * 255).round().to(torch.uint8)
    if random.random() < 0.2:
        frames[0], frames[1] = compressed(random, frames[0]), compressed(random, frames[1])
    return frames, flow.half(), time


def chunk(seed: int, number: int, count: int) -> tuple:
    """`count` clips, which share textures: frames, flows and times, stacked."""
    torch.set_num_threads(1)
    random = numpy.random.default_rng([seed, number])
    backgrounds = [planes(texture(random)) for _ in range(max(count // 2, 2))]
    sprites = [sprite(random) for _ in range(count)]
    fastest = min(FASTEST, 5.0 + number / 2)  # slow things first
    clips = [clip(random, backgrounds, sprites, fastest) for _ in range(count)]
    return tuple(torch.stack([torch.as_tensor(one[part]) for one in clips]).numpy() for part in range(3))
