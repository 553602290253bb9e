"""Networks that nobody here wrote: 12 architectures from 4 sources, installed by the extra `zoo`.

They are narrow, so that they can be run often; weights are random, inputs noise.
"""

import importlib
import importlib.util

import pytest
import torch
from torch import Tensor, nn


def pytorchcv(module: str, name: str, **options) -> nn.Module:
    network = getattr(importlib.import_module(f"pytorchcv.models.{module}"), name)
    return network(init_block_channels=16, bottleneck="XDense" in name, **options)


def hugging_face(name: str, **options) -> nn.Module:
    transformers = importlib.import_module("transformers")
    config = getattr(transformers, f"{name}Config")(num_labels=10, **options)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def efficientnet() -> nn.Module:
    network = importlib.import_module("efficientnet_pytorch").EfficientNet
    narrow = {"width_coefficient": 0.25, "depth_coefficient": 0.5}
    return network.from_name(
        "efficientnet-b0", image_size=32, num_classes=10, drop_connect_rate=0.0, **narrow
    )


def tabnet() -> nn.Module:
    network = importlib.import_module("pytorch_tabnet.tab_network").TabNet
    return network(
        16, 3, n_d=8, n_a=8, n_steps=2, virtual_batch_size=64, group_attention_matrix=torch.eye(16)
    )


STAGES = {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "embedding_size": 16}
RESIDUAL = {"channels": [[16], [16], [32]]}
DENSE = {"channels": [[20, 24], [28, 32], [36, 40]]}
EXPANDED = {"channels": [[24], [32], [40]]}
IMAGE, VECTOR = (3, 32, 32), (16,)
NETWORKS = {  # by name: source, shape of a sample, how it is built
    "resnet": ("pytorchcv", IMAGE, lambda: pytorchcv("resnet_cifar", "CIFARResNet", **RESIDUAL)),
    "preresnet": ("pytorchcv", IMAGE, lambda: pytorchcv("preresnet_cifar", "CIFARPreResNet", **RESIDUAL)),
    "seresnet": ("pytorchcv", IMAGE, lambda: pytorchcv("seresnet_cifar", "CIFARSEResNet", **RESIDUAL)),
    "sepreresnet": (
        *("pytorchcv", IMAGE, lambda: pytorchcv("sepreresnet_cifar", "CIFARSEPreResNet", **RESIDUAL)),
    ),
    "densenet": ("pytorchcv", IMAGE, lambda: pytorchcv("densenet_cifar", "CIFARDenseNet", **DENSE)),
    "xdensenet": ("pytorchcv", IMAGE, lambda: pytorchcv("xdensenet_cifar", "CIFARXDenseNet", **EXPANDED)),
    "hf_resnet": ("transformers", IMAGE, lambda: hugging_face("ResNet", **STAGES)),
    "hf_regnet": ("transformers", IMAGE, lambda: hugging_face("RegNet", groups_width=8, **STAGES)),
    "hf_mobilenet_v1": ("transformers", IMAGE, lambda: hugging_face("MobileNetV1", depth_multiplier=0.25)),
    "hf_mobilenet_v2": ("transformers", IMAGE, lambda: hugging_face("MobileNetV2", depth_multiplier=0.25)),
    "efficientnet": ("efficientnet_pytorch", IMAGE, efficientnet),
    "tabnet": ("pytorch_tabnet", VECTOR, tabnet),
}


def without_noise(name: str, seed: int = 0) -> nn.Module:
    """The network with its own noise at 0."""
    source, _, build = NETWORKS[name]
    if importlib.util.find_spec(source) is None:
        pytest.skip(f"{source} is not installed: pip install 'variance-shift[zoo]'")
    torch.manual_seed(seed)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def inputs(name: str, batches: int, batch: int = 32, seed: int = 0) -> list[Tensor]:
    """Batches of standard normal inputs of the network's shape."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, *NETWORKS[name][1], generator=generator) for _ in range(batches)]
