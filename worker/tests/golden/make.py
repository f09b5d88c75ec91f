"""Writes the golden tensors: what PyTorch computes with weights that a formula gives.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 torchvision safetensors numpy spandrel==0.4.2
    venv/bin/python make.py

The networks are spandrel's (MIT), which run the published checkpoints. No weights are stored:
`cases.json` holds names and shapes, and the tests make the same values by the same formula.
"""

import collections
import json
import pathlib
import re

import numpy
import torch
from formula import uniform, weights
from safetensors.torch import save_file
from spandrel.architectures.__arch_helpers import block
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

HERE = pathlib.Path(__file__).parent
CHECKPOINTS = HERE.parent / "fixtures"


def rrdb(features, growth, blocks, upsamplings, unshuffle):
    net = RRDBNet(
        in_nc=3 * unshuffle**2, num_filters=features, num_blocks=blocks, scale=2**upsamplings,
        shuffle_factor=unshuffle if unshuffle > 1 else None,
    )
    for index in range(blocks):
        net.model[1].sub[index] = block.RRDB(features, kernel_size=3, gc=growth, norm_type=None, act_type="leakyrelu")
    return net


def real_esrgan_name(name, upsamplings):
    """From spandrel's names (ESRGAN's first release) to those of Real-ESRGAN's checkpoints."""
    name = re.sub(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", name)
    name = re.sub(r"model\.1\.sub\.\d+\.", "conv_body.", name)
    numbered = {0: "conv_first", 3 * upsamplings + 2: "conv_hr", 3 * upsamplings + 4: "conv_last"}
    numbered |= {3 * number: f"conv_up{number}" for number in range(1, upsamplings + 1)}
    return re.sub(r"^model\.(\d+)", lambda found: numbered[int(found[1])], name)


def bsrgan_name(name, upsamplings):
    name = real_esrgan_name(name, upsamplings)
    name = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", name)
    name = name.replace("conv_body.", "trunk_conv.").replace("conv_hr.", "HRconv.")
    return re.sub(r"^conv_up", "upconv", name)


CASES = [
    # name, network, renaming, prefix, [frames, height, width]
    ("rrdb_x4", rrdb(8, 4, 2, 2, 1), lambda n: real_esrgan_name(n, 2), "params_ema.", [2, 11, 13]),
    ("rrdb_x4_numbered", rrdb(8, 4, 2, 2, 1), lambda n: n, "", [1, 5, 9]),
    ("rrdb_x4_trunk", rrdb(12, 8, 1, 2, 1), lambda n: bsrgan_name(n, 2), "", [1, 6, 7]),
    ("rrdb_x2_numbered", rrdb(8, 4, 1, 1, 1), lambda n: n, "", [1, 7, 6]),
    ("rrdb_x2_unshuffled", rrdb(8, 4, 2, 2, 2), lambda n: real_esrgan_name(n, 2), "params_ema.", [2, 13, 9]),
    ("rrdb_x1_unshuffled", rrdb(8, 4, 1, 2, 4), lambda n: real_esrgan_name(n, 2), "params.", [1, 14, 11]),
    ("rrdb_x4_anime", rrdb(64, 32, 6, 2, 1), lambda n: real_esrgan_name(n, 2), "params_ema.", [1, 9, 14]),
    ("compact_x4", SRVGGNetCompact(num_feat=8, num_conv=3, upscale=4), lambda n: n, "params.", [2, 9, 11]),
    ("compact_x3", SRVGGNetCompact(num_feat=12, num_conv=2, upscale=3), lambda n: n, "params_ema.", [1, 10, 7]),
    ("compact_x2", SRVGGNetCompact(num_feat=16, num_conv=4, upscale=2), lambda n: n, "", [2, 7, 17]),
    ("compact_x4_anime_video", SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4), lambda n: n, "params.", [1, 12, 15]),
]


def main():
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    torch.use_deterministic_algorithms(True)
    cases, tensors = [], {}
    for name, net, rename, prefix, (frames, height, width) in CASES:
        names = {own: prefix + rename(own) for own in net.state_dict()}
        shapes = {names[own]: list(value.shape) for own, value in net.state_dict().items()}
        made = weights(shapes)
        net.load_state_dict({own: made[name] for own, name in names.items()})
        frame = uniform(name, frames * 3 * height * width).reshape(frames, 3, height, width) + numpy.float32(0.5)
        with torch.inference_mode():
            output = net.eval()(torch.from_numpy(frame))
        print(f"{name}: {tuple(output.shape)} mean {output.mean():.3f} deviation {output.std():.3f}")
        tensors[name] = output.contiguous()
        cases.append({"name": name, "input": [frames, 3, height, width], "weights": shapes})
    save_file(tensors, HERE / "outputs.safetensors")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
    write_checkpoints()


def write_checkpoints():
    """Pickles of both formats, for the converter: with weights by formula under the names that count."""
    net = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2)
    made = weights({name: list(value.shape) for name, value in net.state_dict().items()})
    other = {name: torch.zeros_like(value) for name, value in made.items()}
    torch.save({"params": other, "params_ema": made}, CHECKPOINTS / "compact.pth")
    layouts = {name: value.to(memory_format=torch.channels_last) if value.dim() == 4 else value for name, value in made.items()}
    layouts["body.0.bias"] = torch.nn.Parameter(made["body.0.bias"])
    torch.save(collections.OrderedDict(layouts), CHECKPOINTS / "compact_legacy.pth", _use_new_zipfile_serialization=False)
    plain = {name: value for name, value in made.items() if value.dim() == 4 or name.endswith("bias")}
    torch.save(plain, CHECKPOINTS / "compact_without_slopes.pth")


if __name__ == "__main__":
    main()
