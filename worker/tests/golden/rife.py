"""Writes the golden tensors of RIFE: what PyTorch computes with weights that a formula gives.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 safetensors numpy
    venv/bin/python rife.py

The network below is written from its description: blocks from coarse to fine, each of which corrects the flow and the mask of the
one before. One case for each shape that was published. `rife.json` holds names and shapes of the weights, `rife.safetensors` the
new frames.
"""

import json
import pathlib

import numpy
import torch
import torch.nn.functional as F
from formula import uniform, weights
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent
SLOPE = 0.2


def bent(inputs, outputs, stride, is_prelu):
    bend = nn.PReLU(outputs) if is_prelu else nn.LeakyReLU(SLOPE)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), bend)


class Residual(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x):
        return F.leaky_relu(x + self.beta * self.conv(x), SLOPE)


class Block(nn.Module):
    """One scale: from planes at full resolution to flow, mask and features at full resolution."""

    def __init__(self, inputs, channels, kind):
        super().__init__()
        self.kind = kind
        is_prelu = kind["body"] == "prelu"
        self.conv0 = nn.Sequential(bent(inputs, channels // 2, 2, is_prelu), bent(channels // 2, channels, 2, is_prelu))
        if kind["body"] == "residual":
            body = [Residual(channels, kind["groups"]) for _ in range(kind["depth"])]
        else:
            body = [bent(channels, channels, 1, is_prelu) for _ in range(kind["depth"])]
        self.convblock = nn.Sequential(*body)
        if kind["outputs"] == 5 and not kind["shuffle"]:
            self.lastconv = nn.ConvTranspose2d(channels, 5, 4, 2, 1)
        else:
            self.lastconv = nn.Sequential(nn.ConvTranspose2d(channels, 4 * kind["outputs"], 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, planes, flow, scale):
        size = planes.shape[2:]
        smaller = [round(side / scale) for side in size]
        x = F.interpolate(planes, size=smaller, mode="bilinear", align_corners=False)
        if flow is not None:
            reduced = F.interpolate(flow, size=smaller, mode="bilinear", align_corners=False)
            x = torch.cat([x, reduced / scale], 1)
        x = self.conv0(x)
        y = self.convblock(x)
        if self.kind["body"] == "prelu":
            y = y + x
        y = self.lastconv(y)
        grown = scale if self.kind["shuffle"] else 2 * scale
        y = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
        return y[:, :4] * grown, y[:, 4:5], y[:, 5:]


class Encoder(nn.Module):
    """Features of one frame, at full resolution."""

    def __init__(self, hidden, outputs):
        super().__init__()
        self.cnn0 = nn.Conv2d(3, hidden, 3, 2, 1)
        self.cnn1 = nn.Conv2d(hidden, hidden, 3, 1, 1)
        self.cnn2 = nn.Conv2d(hidden, hidden, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(hidden, outputs, 4, 2, 1)

    def forward(self, frame):
        x = frame
        for layer in (self.cnn0, self.cnn1, self.cnn2):
            x = F.leaky_relu(layer(x), SLOPE)
        return self.cnn3(x)


def encoder(style, hidden, outputs):
    if style == "pair":
        return nn.Sequential(nn.Conv2d(3, hidden, 3, 2, 1), nn.ConvTranspose2d(hidden, outputs, 4, 2, 1))
    if style == "numbered":
        bend = nn.LeakyReLU(SLOPE)
        return nn.Sequential(
            nn.Conv2d(3, hidden, 3, 2, 1), bend, nn.Conv2d(hidden, hidden, 3, 1, 1), bend,
            nn.Conv2d(hidden, hidden, 3, 1, 1), bend, nn.ConvTranspose2d(hidden, outputs, 4, 2, 1),
        )
    return Encoder(hidden, outputs)


def warped(image, flow):
    """Each pixel from where the flow points to; beyond the border lies the border."""
    _, _, height, width = image.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x = (columns + flow[:, 0]) * (2 / (width - 1)) - 1
    y = (rows + flow[:, 1]) * (2 / (height - 1)) - 1
    return F.grid_sample(image, torch.stack([x, y], -1), mode="bilinear", padding_mode="border", align_corners=True)


class Network(nn.Module):
    def __init__(self, channels, scales, body="residual", outputs=6, shuffle=True, groups=1, style=None, hidden=0, encoded=0, depth=8):
        super().__init__()
        self.scales, self.can_rerun = scales, body == "prelu"
        features = 8 if outputs == 13 else 0
        kind = {"body": body, "outputs": outputs, "shuffle": shuffle, "groups": groups, "depth": depth}
        for index, count in enumerate(channels):
            inputs = 7 + 2 * encoded if index == 0 else 12 + 2 * encoded + features
            setattr(self, f"block{index}", Block(inputs, count, kind))
        self.replaces_mask = style is not None
        if style is not None:
            self.encode = encoder(style, hidden, encoded)
        self.reruns = 0

    def forward(self, frame0, frame1, t, user_scale):
        height, width = frame0.shape[2:]
        # A rerun doubles all scales, and the sides must be divisible still.
        multiple = 4 * self.scales[0] * (2 if self.can_rerun else 1)
        multiple = max(multiple, int(multiple / user_scale))
        padding = (0, -width % multiple, 0, -height % multiple)
        frame0, frame1 = F.pad(frame0, padding), F.pad(frame1, padding)
        scales = [scale / user_scale for scale in self.scales]
        time = torch.full_like(frame0[:, :1], t)
        encoded0 = [self.encode(frame0)] if self.replaces_mask else []
        encoded1 = [self.encode(frame1)] if self.replaces_mask else []

        def first():
            return self.block0(torch.cat([frame0, frame1, *encoded0, *encoded1, time], 1), None, scales[0])

        def later(index, flow, mask, features):
            both = [warped(image, flow[:, :2]) for image in [frame0, *encoded0]], [warped(image, flow[:, 2:]) for image in [frame1, *encoded1]]
            planes = [both[0][0], both[1][0], *both[0][1:], *both[1][1:], time, mask, features]
            return getattr(self, f"block{index}")(torch.cat(planes, 1), flow, scales[index])

        def kept(features):
            return features if features.shape[1] == 8 else features[:, :0]

        flow, mask, features = first()
        for index in range(1, len(scales)):
            delta, new_mask, new_features = later(index, flow, mask, kept(features))
            if self.can_rerun and index == 1 and min(delta[:, :2].abs().max(), delta[:, 2:].abs().max()) > 32:
                self.reruns += 1
                scales = [2 * scale for scale in scales]
                flow, mask, features = first()
                delta, new_mask, new_features = later(index, flow, mask, kept(features))
            flow = flow + delta
            mask = new_mask if self.replaces_mask else mask + new_mask
            features = new_features
        share = torch.sigmoid(mask)
        self.flow = flow
        new = warped(frame0, flow[:, :2]) * share + warped(frame1, flow[:, 2:]) * (1 - share)
        return new[:, :, :height, :width]


USUAL, SLIM = [192, 128, 96, 64], [128, 96, 64, 48]
FOUR, FIVE, LITE = [8, 4, 2, 1], [16, 8, 4, 2, 1], [32, 16, 8, 4, 1]
PLAIN = {"body": "plain", "outputs": 5, "shuffle": False}
LATE = {"outputs": 13, "style": "named", "hidden": 16, "encoded": 4}
MODULE = "module."

CASES = [
    # name, network, prefix, [height, width], time, the user's scale, how much lastconv counts
    ("4.0", Network(USUAL, FOUR, "prelu", 5, False), MODULE, [26, 34], 0.5, 1, 0.2),
    ("4.0-rerun", Network(USUAL, FOUR, "prelu", 5, False), "", [70, 50], 0.25, 1, 0.37),
    ("4.2", Network(USUAL, FOUR, **PLAIN), "", [26, 34], 0.3, 1, 0.4),
    ("4.5", Network(USUAL, FOUR, outputs=5), MODULE, [26, 34], 0.5, 1, 0.6),
    ("4.6", Network(USUAL, FOUR), "", [64, 64], 0.4, 1, 0.6),
    ("4.6-half", Network(USUAL, FOUR), "", [26, 34], 0.4, 0.5, 0.6),
    ("4.6-twice", Network(USUAL, FOUR), "", [26, 34], 0.4, 2, 0.6),
    ("4.7", Network(USUAL, FOUR, style="pair", hidden=16, encoded=4), "", [26, 34], 0.6, 1, 0.6),
    ("4.10", Network(USUAL, FOUR, style="numbered", hidden=32, encoded=8), "", [26, 34], 0.5, 1, 0.6),
    ("4.13", Network(USUAL, FOUR, style="named", hidden=32, encoded=8), "", [26, 34], 0.2, 1, 1.0),
    ("4.12.lite", Network(SLIM, FOUR, style="numbered", hidden=32, encoded=4), "", [26, 34], 0.5, 1, 0.6),
    ("4.14.lite", Network(USUAL, FOUR, groups=2, style="named", hidden=32, encoded=8), "", [26, 34], 0.5, 1, 1.0),
    ("4.15.lite", Network(SLIM, FOUR, style="named", hidden=16, encoded=4), "", [26, 34], 0.5, 1, 1.0),
    ("4.20", Network([384, 192, 96, 48], FOUR, style="named", hidden=32, encoded=8), "", [26, 34], 0.5, 1, 0.6),
    ("4.21", Network([256, 192, 96, 48], FOUR, outputs=13, style="named", hidden=32, encoded=8), "", [26, 34], 0.5, 1, 1.0),
    ("4.22.lite", Network([192, 128, 64, 32], FOUR, **LATE), "", [26, 34], 0.5, 1, 1.0),
    ("4.25", Network([192, 128, 96, 64, 32], FIVE, **LATE), MODULE, [70, 50], 0.5, 1, 1.0),
    ("4.25-quarter", Network([192, 128, 96, 64, 32], FIVE, **LATE), "", [26, 34], 0.5, 0.25, 0.5),
    ("4.25.lite", Network([192, 128, 96, 64, 24], LITE, **LATE), "", [26, 34], 0.5, 1, 0.5),
    ("4.25.heavy", Network([384, 256, 192, 128, 64], FIVE, **LATE), "", [26, 34], 0.5, 1, 1.0),
    # As small as it can be, for tests of what is around the network.
    ("mini", Network([8, 4, 4, 4], FOUR), MODULE, [26, 34], 0.5, 1, 0.6),
    # Fewer blocks and layers than any published one.
    ("two blocks", Network([8, 4], [4, 2], outputs=5, depth=2), "", [26, 34], 0.3, 1, 0.6),
    ("three blocks", Network([12, 8, 4], [8, 4, 2], outputs=5, depth=3), "", [26, 34], 0.3, 1, 0.6),
    ("4.26.heavy", Network([192, 128, 96, 64, 32], FIVE, **{**LATE, "encoded": 16}), "", [26, 34], 0.5, 1, 1.0),
]


def made(shapes, gain):
    """The tests make the same: what a block puts out counts for less, so that the flow is a few pixels."""
    values = weights(shapes)
    return {name: value * numpy.float32(gain) if "lastconv" in name else value for name, value in values.items()}


def main():
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    torch.use_deterministic_algorithms(True)
    cases, tensors = [], {}
    for name, net, prefix, (height, width), t, scale, gain in CASES:
        shapes = {prefix + own: list(value.shape) for own, value in net.state_dict().items()}
        values = made(shapes, gain)
        net.load_state_dict({own.removeprefix(prefix): value for own, value in values.items()})
        noise = uniform(name, 2 * 3 * height * width).reshape(2, 1, 3, height, width)
        # Where the flow is large, noise of full contrast would show its rounding.
        contrast = 0.25 if "rerun" in name else 1.0
        frames = noise * numpy.float32(contrast) + numpy.float32(0.5)
        with torch.inference_mode():
            new = net.eval()(torch.from_numpy(frames[0]), torch.from_numpy(frames[1]), t, scale)
        flow = net.flow.abs()
        print(f"{name}: mean {new.mean():.3f} deviation {new.std():.3f}; flow: median {flow.median():.2f} most {flow.max():.2f}; reruns {net.reruns}")
        tensors[name] = new[0].contiguous()
        cases.append({"name": name, "size": [height, width], "time": t, "scale": scale, "contrast": contrast, "gain": gain, "weights": shapes})
    save_file(tensors, HERE / "rife.safetensors")
    write_checkpoint(cases)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "rife.json").write_text(f"[\n{lines}\n]\n")


def write_checkpoint(cases):
    """A pickle for the converter, with what training leaves behind."""
    mini = next(case for case in cases if case["name"] == "mini")
    values = made(mini["weights"], mini["gain"])
    values |= {"module.teacher.conv0.weight": torch.zeros(2, 2), "caltime.0.bias": torch.zeros(3)}
    torch.save(values, HERE.parent / "fixtures" / "flownet.pkl")


if __name__ == "__main__":
    main()
