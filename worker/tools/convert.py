#!/usr/bin/env python3
"""Converts a PyTorch checkpoint (.pth, .pt, .pkl, .ckpt, .bin) to safetensors.

    python3 convert.py RealESRGAN_x4plus.pth RealESRGAN_x4plus.safetensors
    python3 convert.py flownet.pkl rife-4.25.safetensors

Needs nothing but Python. A checkpoint is a pickle, which can run code when it is read: this reads
it with a list of the few names that tensors are made of, and runs nothing else.

Of a checkpoint that holds several sets of weights, the averaged ones are taken (params_ema).
Of a RIFE, what only training needs is left out.
An SRVGGNetCompact without slopes does not say which activation it was trained with: give
--activation relu or --activation leakyrelu, and the slopes are written.
"""

import argparse
import collections
import hashlib
import json
import math
import os
import pickle
import re
import struct
import sys
import tempfile
import zipfile

# Storage classes: safetensors' name, bytes.
STORAGES = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SETS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
LEAKY_SLOPE = 0.1  # what SRVGGNetCompact is trained with
RIFE = "block0.conv0.0.0.weight"  # every RIFE 4.x has it
RIFE_TRAINING = ("teacher.", "caltime.", "block_tea.", "contextnet.", "unet.")


class Refused(Exception):
    pass


class Storage:
    def __init__(self, kind, load):
        self.dtype, self.size = STORAGES[kind]
        self.load = load


class Tensor:
    def __init__(self, storage, offset, shape, stride, *_):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def bytes(self):
        size, data = self.storage.size, self.storage.load()
        count = math.prod(self.shape)
        if self.stride == contiguous(self.shape) or count <= 1:
            taken = data[self.offset * size : (self.offset + count) * size]
        else:
            indices = [self.offset]
            for length, step in zip(self.shape, self.stride):
                indices = [index + step * place for index in indices for place in range(length)]
            taken = b"".join(data[index * size : (index + 1) * size] for index in indices)
        if len(taken) != count * size:
            raise Refused("a tensor lies outside of its storage: the file is cut off or damaged")
        return taken


def contiguous(shape):
    return tuple(math.prod(shape[place + 1 :]) for place in range(len(shape)))


class Reader(pickle.Unpickler):
    """Knows the names that tensors are made of, and no other."""

    def __init__(self, file, storages):
        super().__init__(file, encoding="utf-8")
        self.storages = storages
        self.sizes = {}

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor"): Tensor,
            ("torch._utils", "_rebuild_tensor_v2"): Tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in STORAGES:
            return name
        raise Refused(f"it holds {module}.{name}, which is no part of plain weights: it is not converted")

    def persistent_load(self, saved):
        _, kind, key, _, *_ = saved
        if kind not in STORAGES:
            raise Refused(f"it holds values of type {kind}")
        self.sizes[key] = STORAGES[kind][1]
        return Storage(kind, lambda: self.storages(key))


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise Refused("it is a zip file, but no PyTorch checkpoint (no data.pkl)")
        folder = index[: -len("data.pkl")]
        if folder + "byteorder" in archive.namelist() and archive.read(folder + "byteorder") != b"little":
            raise Refused("it was written on a big-endian machine")
        loaded = {}

        def storage(key):
            if key not in loaded:
                loaded[key] = archive.read(f"{folder}data/{key}")
            return loaded[key]

        with archive.open(index) as file:
            return plain(Reader(file, storage).load())


def read_legacy(path):
    with open(path, "rb") as file:
        loaded = {}
        if Reader(file, None).load() != LEGACY_MAGIC:
            raise Refused("it is a pickle, but no PyTorch checkpoint")
        Reader(file, None).load()  # the format's version
        Reader(file, None).load()  # the machine that wrote it
        contents = Reader(file, lambda key: loaded[key])
        checkpoint = contents.load()
        for key in Reader(file, None).load():
            (count,) = struct.unpack("<q", file.read(8))
            loaded[key] = file.read(count * contents.sizes[key])
        return plain(checkpoint)


def plain(checkpoint):
    """Tensors by name, out of what surrounds them."""
    for name in SETS:
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(name), dict):
            checkpoint = checkpoint[name]
            break
    tensors = {name: tensor for name, tensor in checkpoint.items() if isinstance(tensor, Tensor)} if isinstance(checkpoint, dict) else {}
    if not tensors:
        raise Refused("it holds no tensors by name")
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if RIFE in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(RIFE_TRAINING)}
    return {name: (tensor.storage.dtype, tensor.shape, tensor.bytes()) for name, tensor in tensors.items()}


def add_slopes(tensors, activation):
    """LeakyReLU and ReLU are PReLU with one slope."""
    convolutions = sorted(int(found[1]) for name in tensors if (found := re.fullmatch(r"body\.(\d+)\.weight", name)))
    if not convolutions or any(f"body.{place + 1}.weight" in tensors for place in convolutions):
        raise Refused("--activation is for an SRVGGNetCompact without slopes, which this is not")
    slope = LEAKY_SLOPE if activation == "leakyrelu" else 0.0
    for place in convolutions[:-1]:
        features = tensors[f"body.{place}.weight"][1][0]
        tensors[f"body.{place + 1}.weight"] = ("F32", (features,), struct.pack("<f", slope) * features)


def write(tensors, path):
    header, place = {}, 0
    for name, (dtype, shape, data) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(data)]}
        place += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    folder = os.path.dirname(os.path.abspath(path))
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            for part in [struct.pack("<Q", len(text)), text, *(tensors[name][2] for name in sorted(tensors))]:
                file.write(part)
                digest.update(part)
            file.close()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return digest.hexdigest(), 8 + len(text) + place


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint")
    arguments.add_argument("safetensors")
    arguments.add_argument("--activation", choices=["relu", "leakyrelu"])
    options = arguments.parse_args()
    try:
        read = read_zip if zipfile.is_zipfile(options.checkpoint) else read_legacy
        tensors = read(options.checkpoint)
        if options.activation:
            add_slopes(tensors, options.activation)
        digest, size = write(tensors, options.safetensors)
    except (Refused, OSError) as error:
        sys.exit(f"cannot convert {options.checkpoint}: {error}")
    except Exception as error:  # a damaged pickle can end in any of them
        sys.exit(f"cannot convert {options.checkpoint}: it is no PyTorch checkpoint, or damaged ({error})")
    print(f"{options.safetensors}: {len(tensors)} tensors, {size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
