"""The network: SRVGGNetCompact x2, and how its weights are kept harmless to flat areas."""

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

SCALE = 2
FEATURES = 32
CONVOLUTIONS = 5
CARRIED = 3
# Lagrange weights of the pixels left, here and right, for a point a quarter pixel left or right of here.
PARABOLA = torch.tensor([[0.15625, 0.9375, -0.09375], [-0.09375, 0.9375, 0.15625]])


class Upscaler(nn.Module):
    """RGB in 0..1, [N, 3, H, W], to RGB of about 0..1, [N, 3, 2H, 2W]. Zero padding at the frame's border."""

    def __init__(self, features: int = FEATURES, convolutions: int = CONVOLUTIONS):
        super().__init__()
        layers = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * SCALE**2, 3, padding=1))
        self.body = nn.ModuleList(layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = image
        for layer in self.body:
            features = layer(features)
        nearest = functional.interpolate(image, scale_factor=SCALE, mode="nearest")
        return functional.pixel_shuffle(features, SCALE) + nearest


def load(path) -> Upscaler:
    """The network in f32 from a file of f16 or f32 weights; its width and depth are read from the file."""
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    convolutions = (len({name.split(".")[1] for name in weights}) - 3) // 2
    network = Upscaler(weights["body.0.weight"].shape[0], convolutions)
    network.load_state_dict(weights)
    return network.eval()


def save(weights: dict, path, description: str) -> None:
    """Writes weights, as `rounded` gives them, as f16. One line of metadata, for several have no fixed order."""
    stored = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    save_file(stored, path, {"description": description})


@torch.no_grad()
def start(network: Upscaler) -> None:
    """A start that interpolates already: the last layer reads a parabola through three pixels each way."""
    last = network.body[-1]
    last.weight *= 0.1
    for colour in range(3):
        for row in range(SCALE):
            for column in range(SCALE):
                kernel = torch.outer(PARABOLA[row], PARABOLA[column])
                kernel[1, 1] -= 1.0  # the nearest pixel is added after the last layer
                last.weight[colour * SCALE**2 + row * SCALE + column, :CARRIED] = 0.0
                last.weight[colour * SCALE**2 + row * SCALE + column, colour] = kernel
    keep_flat_areas_flat(network)


def flat_response(network: Upscaler) -> torch.Tensor:
    """What the network makes of black, away from the border: [1, 3, 2, 2]."""
    side = 2 * len(network.body[0::2]) + 1
    return network(torch.zeros(1, 3, side, side))[:, :, side - 1 : side + 1, side - 1 : side + 1]


@torch.no_grad()
def keep_flat_areas_flat(network: Upscaler) -> None:
    """Projects the weights onto those networks that return a flat area of any colour unchanged.

    The first channels carry the picture, linearly, to the last layer. Whatever looks at the picture itself has kernels
    that sum to zero, so the other channels see differences only: in a flat area they hold the same values for all
    colours, and the last layer's bias takes away what they add up to there. Without this, training for edges costs
    smooth areas an 8-bit step here and there, which is all the error that they have.
    """
    for convolution, activation in zip(network.body[0::2], network.body[1::2]):
        convolution.weight[:, :CARRIED] -= convolution.weight[:, :CARRIED].mean((2, 3), keepdim=True)
        convolution.weight[:CARRIED] = 0.0
        convolution.bias[:CARRIED] = 0.0
        activation.weight[:CARRIED] = 1.0
        for colour in range(CARRIED):
            convolution.weight[colour, colour, 1, 1] = 1.0
    last = network.body[-1]
    last.weight[:, :CARRIED] -= last.weight[:, :CARRIED].mean((2, 3), keepdim=True)
    last.bias -= flat_response(network).reshape(-1)


@torch.no_grad()
def project_gradients(network: Upscaler) -> None:
    """Leaves the optimiser only those directions that `keep_flat_areas_flat` would not undo."""
    for convolution, activation in zip(network.body[0::2], network.body[1::2]):
        convolution.weight.grad[:, :CARRIED] -= convolution.weight.grad[:, :CARRIED].mean((2, 3), keepdim=True)
        convolution.weight.grad[:CARRIED] = 0.0
        convolution.bias.grad[:CARRIED] = 0.0
        activation.weight.grad[:CARRIED] = 0.0
    gradient = network.body[-1].weight.grad
    gradient[:, :CARRIED] -= gradient[:, :CARRIED].mean((2, 3), keepdim=True)


@torch.no_grad()
def rounded(weights: dict) -> dict:
    """The weights as f16 can hold them, in f32; middle taps and the last bias make up for what rounding adds."""
    network = Upscaler()
    network.load_state_dict({name: tensor.half().float() for name, tensor in weights.items()})
    for convolution in network.body[0::2]:
        seen = convolution.weight[CARRIED if convolution is not network.body[-1] else 0 :, :CARRIED]
        seen[:, :, 1, 1] -= seen.sum((2, 3))
        convolution.weight.copy_(convolution.weight.half())
    network.body[-1].bias -= flat_response(network).reshape(-1)
    return {name: tensor.half().float() for name, tensor in network.state_dict().items()}
