"""The small model that the examples share: a convolutional net for scikit-learn's handwritten digits.

The data come with scikit-learn (`pip install scikit-learn`, part of the `dev` extra), so nothing is downloaded. This
module is not run directly: `train_digits.py` trains the net, and `evaluate_digits.py` measures the accuracy of a
checkpoint.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

__all__ = ["Data", "DigitsNet", "accuracy", "load_split"]

_TEST_IMAGES = 597
"""About a third of the 1797 images; the other 1200 are for training."""


@dataclass(frozen=True)
class Data:
    """Images, float32 of shape `(n, 1, 8, 8)` in [0, 1], and the digit on each, int64 of shape `(n,)`."""

    images: Tensor
    labels: Tensor


class DigitsNet(nn.Module):
    """Two convolutions with batch norm, two linear layers: 38 378 parameters, most of them in `fc1.weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(n, 1, 8, 8)` to scores `(n, 10)`."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = nn.functional.max_pool2d(x, 2).flatten(1)
        scores: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return scores


def load_split() -> tuple[Data, Data]:
    """Return the digits for training and for testing: the same split, shuffled the same way, every time."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    images = torch.from_numpy(digits.images[order]).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target[order]).long()
    cut = len(order) - _TEST_IMAGES
    return Data(images[:cut], labels[:cut]), Data(images[cut:], labels[cut:])


def accuracy(model: nn.Module, data: Data) -> float:
    """Return the fraction of images that the model classifies correctly. The model stays in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        read = model(data.images).argmax(dim=1)
    return float((read == data.labels).float().mean())
