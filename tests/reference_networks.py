"""The oracle of the networks: each one's forward pass once more, as plain functions of its weights.

Written from the papers and the public code base that the paper on variance shift builds on; without an import
of the project, without noise, and in train mode (every BN normalises by its batch). `w` are a network's weights
by the harness's names, x [batch, channels, height, width] -> logits [batch, classes].
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def conv(w: Weights, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, w[f"{name}.weight"], w[f"{name}.bias"], training=True)


def norm_relu(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.relu(norm(w, name, x))


def classify(w: Weights, x: Tensor) -> Tensor:
    pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
    return F.linear(pooled, w["classifier.weight"], w["classifier.bias"])


def convnet(w: Weights, x: Tensor, depth: int) -> Tensor:
    for block in range(3 * depth):
        x = norm_relu(w, f"blocks.{block}.norm", conv(w, f"blocks.{block}.conv", x))
        if block + 1 in (depth, 2 * depth):
            x = F.max_pool2d(x, 2)
    return classify(w, x)


def preresnet(w: Weights, x: Tensor, depth: int, block: str) -> Tensor:
    x = conv(w, "stem", x)
    for index in range(3 * depth):
        name, stride = f"blocks.{index}", 2 if index in (depth, 2 * depth) else 1
        strides = (stride, 1) if block == "basic" else (1, stride, 1)
        y = x
        for number, s in enumerate(strides, start=1):
            y = conv(w, f"{name}.conv{number}", norm_relu(w, f"{name}.norm{number}", y), s)
        if f"{name}.shortcut.weight" in w:
            x = conv(w, f"{name}.shortcut", x, stride)  # of the raw input
        x = x + y
    return classify(w, norm_relu(w, "norm", x))


def wide_resnet(w: Weights, x: Tensor, depth: int) -> Tensor:
    x = conv(w, "stem", x)
    for index in range(3 * depth):
        name, stride = f"blocks.{index}", 2 if index in (depth, 2 * depth) else 1
        activated = norm_relu(w, f"{name}.norm1", x)
        y = conv(w, f"{name}.conv1", activated, stride)
        y = conv(w, f"{name}.conv2", norm_relu(w, f"{name}.norm2", y))
        if f"{name}.shortcut.weight" in w:
            x = conv(w, f"{name}.shortcut", activated, stride)
        x = x + y
    return classify(w, norm_relu(w, "norm", x))


def resnext(w: Weights, x: Tensor, depth: int, cardinality: int) -> Tensor:
    x = norm_relu(w, "norm", conv(w, "stem", x))
    for index in range(3 * depth):
        name, stride = f"blocks.{index}", 2 if index in (depth, 2 * depth) else 1
        y = norm_relu(w, f"{name}.norm_reduce", conv(w, f"{name}.conv_reduce", x))
        y = norm_relu(w, f"{name}.norm_groups", conv(w, f"{name}.conv_groups", y, stride, cardinality))
        y = norm(w, f"{name}.norm_expand", conv(w, f"{name}.conv_expand", y))
        if f"{name}.conv_shortcut.weight" in w:
            x = norm(w, f"{name}.norm_shortcut", conv(w, f"{name}.conv_shortcut", x, stride))
        x = F.relu(x + y)
    return classify(w, x)


def densenet(w: Weights, x: Tensor, depth: int) -> Tensor:
    x = conv(w, "stem", x)
    for index in range(3 * depth + 2):
        name = f"blocks.{index}"
        if index in (depth, 2 * depth + 1):
            x = F.avg_pool2d(conv(w, f"{name}.conv", norm_relu(w, f"{name}.norm", x)), 2)
        else:
            y = conv(w, f"{name}.conv1", norm_relu(w, f"{name}.norm1", x))
            y = conv(w, f"{name}.conv2", norm_relu(w, f"{name}.norm2", y))
            x = torch.cat([x, y], 1)
    return classify(w, norm_relu(w, "norm", x))


NETWORKS = {
    "convnet": convnet,
    "preresnet": preresnet,
    "wide_resnet": wide_resnet,
    "resnext": resnext,
    "densenet": densenet,
}
