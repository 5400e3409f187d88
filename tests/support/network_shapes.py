"""Shapes of the weights of well-known networks, in the model's order, as torch has them."""

from collections.abc import Iterator

from prunecli.core.allocation import Layer

Shapes = dict[str, tuple[int, ...]]

_VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def _mlp() -> Shapes:
    """LeNet-300-100."""
    return {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}


def _resnet20() -> Shapes:
    """ResNet-20 for CIFAR, whose shortcuts have no parameters."""
    shapes: Shapes = {"conv1.weight": (16, 3, 3, 3)}
    width = 16
    for stage, out in enumerate((16, 32, 64), 1):
        for block in range(3):
            shapes[f"layer{stage}.{block}.conv1.weight"] = (out, width, 3, 3)
            shapes[f"layer{stage}.{block}.conv2.weight"] = (out, out, 3, 3)
            width = out
    return shapes | {"fc.weight": (10, 64)}


def _resnet50() -> Shapes:
    """ResNet-50 for ImageNet."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7)}
    width = 64
    for stage, (inner, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (inner, width, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * inner, width, 1, 1)
            width = 4 * inner
    return shapes | {"fc.weight": (1000, 2048)}


def _vgg16() -> Shapes:
    """VGG-16 for CIFAR, with one linear layer."""
    widths = zip(_VGG_WIDTHS, (3, *_VGG_WIDTHS), strict=False)
    convolutions: Shapes = {f"features.{at}.weight": (out, width, 3, 3) for at, (out, width) in enumerate(widths)}
    return convolutions | {"classifier.weight": (10, 512)}


def _minilm() -> Shapes:
    """The matrices of all-MiniLM-L6-v2."""
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (30522, 384),
        "embeddings.position_embeddings.weight": (512, 384),
        "embeddings.token_type_embeddings.weight": (2, 384),
    }
    for layer in range(6):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{name}.attention.{part}.weight"] = (384, 384)
        shapes[f"{name}.intermediate.dense.weight"] = (1536, 384)
        shapes[f"{name}.output.dense.weight"] = (384, 1536)
    return shapes | {"pooler.dense.weight": (384, 384)}


NETWORKS = {"mlp": _mlp(), "resnet20": _resnet20(), "resnet50": _resnet50(), "vgg16": _vgg16(), "minilm": _minilm()}


def layers_of(network: str) -> list[Layer]:
    """The layers of a network that was never pruned."""
    return list(_layers(NETWORKS[network]))


def _layers(shapes: Shapes) -> Iterator[Layer]:
    for name, shape in shapes.items():
        layer = Layer(name, name, shape, 0)
        yield Layer(name, name, shape, layer.size)
