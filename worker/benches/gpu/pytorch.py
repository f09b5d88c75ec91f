"""What PyTorch makes of one network and size: frames a second, eager and compiled, channels-last in half precision.

    pytorch.py NAME SCALE BLOCKS WIDTH HEIGHT [cpu]

Prints one line of JSON, with an error where one of the two does not work. Ends with 3 where there is no torch.
"""

import json
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    sys.exit(3)


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def leaky(features):
    return functional.leaky_relu(features, 0.2)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.growing = nn.ModuleList(conv(64 + 32 * number, 32) for number in range(4))
        self.last = conv(192, 64)

    def forward(self, features):
        seen = features
        for layer in self.growing:
            seen = torch.cat([seen, leaky(layer(seen))], 1)
        return features + 0.2 * self.last(seen)


class Rrdb(nn.Module):
    def __init__(self, scale, blocks):
        super().__init__()
        self.unshuffle = 2 if scale == 2 else 1
        self.first = conv(3 * self.unshuffle**2, 64)
        self.blocks = nn.ModuleList(nn.Sequential(Dense(), Dense(), Dense()) for _ in range(blocks))
        self.body, self.up1, self.up2, self.high, self.last = (
            conv(64, 64),
            conv(64, 64),
            conv(64, 64),
            conv(64, 64),
            conv(64, 3),
        )

    def forward(self, frames):
        first = self.first(functional.pixel_unshuffle(frames, self.unshuffle))
        features = first
        for block in self.blocks:
            features = features + 0.2 * block(features)
        features = first + self.body(features)
        for up in (self.up1, self.up2):
            features = leaky(up(functional.interpolate(features, scale_factor=2, mode="nearest")))
        return self.last(leaky(self.high(features)))


class Srvgg(nn.Module):
    def __init__(self, scale, convolutions):
        super().__init__()
        self.scale = scale
        layers = [conv(3, 64), nn.PReLU(64)]
        for _ in range(convolutions):
            layers += [conv(64, 64), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, conv(64, 3 * scale * scale))

    def forward(self, frames):
        enlarged = functional.interpolate(frames, scale_factor=self.scale, mode="nearest")
        return functional.pixel_shuffle(self.body(frames), self.scale) + enlarged


def rate(network, frames, synchronize):
    with torch.inference_mode():
        for _ in range(3):
            network(frames)
        synchronize()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < 2 or count < 3:
            network(frames)
            synchronize()
            count += 1
        return count / (time.perf_counter() - start)


def main():
    name, scale, blocks, width, height = sys.argv[1], *map(int, sys.argv[2:6])
    on_cpu = sys.argv[6:] == ["cpu"]
    if not on_cpu and not torch.cuda.is_available():
        print(json.dumps({"torch": torch.__version__, "eager_error": "no CUDA in it", "compiled_error": "no CUDA in it"}))
        return
    device, dtype = ("cpu", torch.float32) if on_cpu else ("cuda", torch.half)
    synchronize = (lambda: None) if on_cpu else torch.cuda.synchronize
    network = (Rrdb if name == "RRDBNet" else Srvgg)(scale, blocks).eval().to(device, dtype, memory_format=torch.channels_last)
    frames = torch.rand(1, 3, height, width).to(device, dtype, memory_format=torch.channels_last)
    result = {"torch": torch.__version__}
    for kind, made in [("eager", lambda: network), ("compiled", lambda: torch.compile(network))]:
        try:
            result[kind] = rate(made(), frames, synchronize)
        except Exception as error:
            result[kind + "_error"] = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    print(json.dumps(result))


main()
