"""Draw a folder of images for the tutorial: noise with a red or a yellow tint, `python draw_photos.py photos`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

random = np.random.default_rng(0)
for split, count in (("train", 24), ("val", 12), ("test", 24)):
    for green, name in ((0, "apples"), (80, "bananas")):
        folder = Path(sys.argv[1], split, name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 120, (80, 96, 3), dtype=np.uint8)
            pixels += np.array([80, green, 0], dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
