"""A file server on the loopback interface that plays the publishers of weights, and files of weights as they publish
them: the real architecture and format, random values."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np


class Publisher:
    """What it serves, by path, and the paths that it was asked for. `cut` sends half of an answer that many times."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = 0


@contextmanager
def publisher() -> Iterator[Publisher]:
    """A publisher that answers until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            content = found.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if found.cut:
                found.cut -= 1
                content = content[: len(content) // 2]
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Publisher(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_mobilenet_v2(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write tensors by canonical name as the file of 2018 that keras.applications still fetches: its groups, its names
    of layers (`Conv1`, `mobl3_conv_3_expand`, `bn3_conv_3_bn_expand`, `Logits`), its names of weights."""
    import h5py

    from backends.keras3.models import maps, mobilenet_v2

    layers: dict[str, list[tuple[str, np.ndarray[Any, Any]]]] = {"input_1": []}
    for row in (*mobilenet_v2.WEIGHT_MAP, *maps.rows("Logits", "classifier.1", "dense", -1)):
        layer, variable = row.variable.split("/")
        variable = "depthwise_kernel" if row.layout == "depthwise" else variable
        array = maps.to_keras(arrays[row.name], row.layout)
        layers.setdefault(_name_of_2018(layer), []).append((variable, array))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, variables in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{variable}:0".encode() for variable, _ in variables]
            for variable, array in variables:
                group[f"{name}/{variable}:0"] = array


def _name_of_2018(layer: str) -> str:
    found = re.fullmatch(r"(?:expanded_conv|block_(\d+))_(expand|depthwise|project)(_BN)?", layer)
    if not found:
        return layer
    block, kind = found[1] or "0", found[2]
    return f"bn{block}_conv_{block}_bn_{kind}" if found[3] else f"mobl{block}_conv_{block}_{kind}"


if __name__ == "__main__":
    import sys

    import torch
    import torchvision
    from efficientnet_pytorch import EfficientNet

    home = Path(sys.argv[1])
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), home / "resnet18.pth")
    torch.save(EfficientNet.from_name("efficientnet-b0").state_dict(), home / "efficientnet-b0.pth")
    for width in (1.0, 0.35):
        state = torchvision.models.mobilenet_v2(width_mult=width).state_dict()
        write_mobilenet_v2(home / f"mobilenet-v2-{width}.h5", {name: t.numpy() for name, t in state.items()})
