"""The network: RIFE 4.6's layout (Huang et al., 2022), with fewer blocks, channels and convolutions."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

CHANNELS, SCALES, DEPTH, OUTPUTS = (32, 24), (4, 2), 3, 5
MULTIPLE = 16  # of the sides of a frame
SLOPE = 0.2


def leaky(planes: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(planes, SLOPE)


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return leaky(planes + self.beta * self.conv(planes))


class Block(nn.Module):
    """One scale: from planes of that scale to a correction of the flow, and a mask, at that scale."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        half = channels // 2
        self.conv0 = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, half, 3, 2, 1), nn.LeakyReLU(SLOPE)),
            nn.Sequential(nn.Conv2d(half, channels, 3, 2, 1), nn.LeakyReLU(SLOPE)),
        )
        self.convblock = nn.Sequential(*[Residual(channels) for _ in range(DEPTH)])
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(channels, 4 * OUTPUTS, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return self.lastconv(self.convblock(self.conv0(planes)))


def grid(flow: torch.Tensor, top: int, left: int, step: int, height: int, width: int) -> torch.Tensor:
    """Where each `step`th pixel from (top, left) of a frame of this size is read, for grid_sample."""
    rows = torch.arange(flow.shape[2]).view(-1, 1) * step + top
    columns = torch.arange(flow.shape[3]).view(1, -1) * step + left
    x = (columns + flow[:, 0]) * (2 / (width - 1)) - 1
    y = (rows + flow[:, 1]) * (2 / (height - 1)) - 1
    return torch.stack([x, y], -1)


def warped(image: torch.Tensor, flow: torch.Tensor, scale: int = 1) -> torch.Tensor:
    """Each pixel from where the flow points to; beyond the border lies the border. Then reduced by `scale`.

    Bilinear reduction by an even factor is the mean of the four pixels around a cell's middle: only those are read.
    """
    height, width = image.shape[2:]
    places = [(0, 0)] if scale == 1 else [(scale // 2 + i, scale // 2 + j) for i in (-1, 0) for j in (-1, 0)]
    total = 0
    for top, left in places:
        where = grid(flow[:, :, top::scale, left::scale], top, left, scale, height, width)
        total = total + functional.grid_sample(image, where, padding_mode="border", align_corners=True)
    return total / len(places)


def resized(planes: torch.Tensor, factor: float) -> torch.Tensor:
    if factor == 1:
        return planes
    return functional.interpolate(planes, scale_factor=factor, mode="bilinear", align_corners=False)


class Interpolator(nn.Module):
    """Frames [N, 3, H, W] in 0..1, sides multiples of 16, and times [N, 1, 1, 1] in 0..1: the frame at that time.

    Flow has four planes, in pixels: x and y from the new frame to the earlier one, x and y to the later one.
    """

    def __init__(self):
        super().__init__()
        for index, channels in enumerate(CHANNELS):
            setattr(self, f"block{index}", Block(7 if index == 0 else 12, channels))

    def forward(self, earlier: torch.Tensor, later: torch.Tensor, time: torch.Tensor) -> tuple:
        """The new frame, and the flow after each block."""
        count, _, height, width = earlier.shape
        flow, mask, flows = None, None, []
        for index, scale in enumerate(SCALES):
            clock = time.expand(count, 1, height // scale, width // scale)
            if flow is None:
                planes = [resized(earlier, 1 / scale), resized(later, 1 / scale), clock]
            else:
                # Each block learns from its own flow. Learning through the next one's inputs too takes twice the time.
                flow = flow.detach()
                planes = [warped(earlier, flow[:, :2], scale), warped(later, flow[:, 2:], scale), clock]
                planes += [resized(mask, 1 / scale), resized(flow, 1 / scale) / scale]
            made = resized(getattr(self, f"block{index}")(torch.cat(planes, 1)), scale)
            flow = made[:, :4] * scale + (0 if flow is None else flow)
            mask = made[:, 4:5] + (0 if mask is None else mask)
            flows.append(flow)
        share = torch.sigmoid(mask)
        new = warped(earlier, flow[:, :2]) * share + warped(later, flow[:, 2:]) * (1 - share)
        return new, flows


SHIFTS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


@torch.no_grad()
def start(network: Interpolator) -> None:
    """A start from which motion is found: the first two layers of each block compare the frames, shifted against each other.

    A pair of channels for each shift, with opposite signs, makes the absolute difference, and the next layer its mean over a
    neighbourhood. From PyTorch's usual start, the flow was still zero after 4000 steps.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)
            if "convblock" in name:
                layer.weight *= 0.5
    for index in range(len(CHANNELS)):
        first, second = [part[0] for part in getattr(network, f"block{index}").conv0]
        first.weight *= 0.1
        for pair, (down, across) in zip(range(len(first.weight) // 2), SHIFTS):
            for channel, sign in ((2 * pair, 4.0), (2 * pair + 1, -4.0)):
                first.weight[channel, :3, 1 + down, 1 + across] += sign / 3
                first.weight[channel, 3:6, 1 - down, 1 - across] -= sign / 3
        mean = second.weight[:, 0::2].mean((2, 3), keepdim=True) * 3
        second.weight *= 0.3
        second.weight += mean.repeat_interleave(2, 1)


@torch.no_grad()
def between(network: Interpolator, earlier: torch.Tensor, later: torch.Tensor, time: float) -> torch.Tensor:
    """The same for frames of any size: they are filled up with black at the right and at the bottom."""
    height, width = earlier.shape[2:]
    padding = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
    frames = [functional.pad(frame, padding) for frame in (earlier, later)]
    return network(*frames, torch.full((len(earlier), 1, 1, 1), time))[0][:, :, :height, :width]


def load(path) -> Interpolator:
    """The network in f32 from a file of f16 or f32 weights."""
    network = Interpolator()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return network.eval()


def save(weights: dict, path, description: str) -> None:
    """Writes weights as f16. One line of metadata, for several have no fixed order."""
    save_file({name: tensor.half().contiguous() for name, tensor in weights.items()}, path, {"description": description})
