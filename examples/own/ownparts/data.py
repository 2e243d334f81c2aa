"""A data set: noisy images of bars, at the top, at the bottom, left or right."""

from typing import Literal

import numpy as np

Part = Literal["train", "test"]


class Bars:
    """Grey images of 8×8 pixels in four classes, drawn from a seed; the test part has a seed of its own."""

    def __init__(self, images: int = 400, noise: int = 120, seed: int = 0) -> None:
        self.images, self.noise, self.seed = images, noise, seed

    def read(self, part: Part) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return pixels uint8 [N, 1, 8, 8], labels [N] and the names of the classes."""
        generator = np.random.default_rng([self.seed, part == "test"])
        count = self.images if part == "train" else self.images // 2
        pixels = generator.integers(0, self.noise, (count, 1, 8, 8))
        labels = np.arange(count) % 4
        for image, label in zip(pixels[:, 0], labels, strict=True):
            rows = image if label < 2 else image.T
            rows[(0 if label % 2 else 6) : (2 if label % 2 else 8)] += 100
        return pixels.clip(0, 255).astype(np.uint8), labels, ["bottom", "top", "right", "left"]
