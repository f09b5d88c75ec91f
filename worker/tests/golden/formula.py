"""Values that a formula gives, the same as in mod.rs: so that no weights are stored."""

import math

import numpy
import torch

MASK = (1 << 64) - 1


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(name, count):
    """float32 values in [-0.5, 0.5) that depend on the name and the index only."""
    state = numpy.uint64(fnv1a64(name)) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    state ^= state >> numpy.uint64(31)
    return (state >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2**-24) - numpy.float32(0.5)


def spread(shape):
    """Kernels keep the signal's size (He); slopes and biases are of a size that shows."""
    return numpy.float32(math.sqrt(24 / math.prod(shape[1:])) if len(shape) == 4 else 0.5)


def weights(shapes):
    return {
        name: torch.from_numpy((uniform(name, math.prod(shape)) * spread(shape)).reshape(shape))
        for name, shape in shapes.items()
    }
