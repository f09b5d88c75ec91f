"""How long PyTorch takes for one frame: the other side of `cargo run --release --example upscale_speed`."""

import os
import time

import torch
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact
from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

torch.set_num_threads(int(os.environ.get("RAYON_NUM_THREADS", os.cpu_count())))
print("threads", torch.get_num_threads())
for name, net in [
    ("compact x4 64/16", SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4)),
    ("rrdb x4 6", RRDBNet(num_blocks=6)),
]:
    net.eval()
    for frames, width, height in [(1, 160, 90), (4, 160, 90), (1, 320, 180)]:
        frame = torch.rand(frames, 3, height, width)
        with torch.inference_mode():
            net(frame)
            wall = busy = float("inf")
            for _ in range(3):
                start, start_busy = time.perf_counter(), time.process_time()
                net(frame)
                wall = min(wall, (time.perf_counter() - start) / frames)
                busy = min(busy, (time.process_time() - start_busy) / frames)
        print(f"{name} {frames}x{width}x{height} {wall:.3f} s/frame, {busy:.3f} CPU s/frame")
