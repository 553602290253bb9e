"""Modes and autograd: what eval() has to do with gradients and memory, and whom it reaches."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.modes.finding import Finding, judge
from experiments.modes.networks import (
    bn_dropout_network,
    image_classifier,
    image_network,
    logistic_regression,
    mlp,
    stored_statistics,
)


def gradient_norm(network: nn.Module) -> float:
    """Euclidean norm of all gradients of the parameters together; 0 where there are none."""
    gradients = [parameter.grad.norm() for parameter in network.parameters() if parameter.grad is not None]
    return torch.stack(gradients).norm().item() if gradients else 0.0


def eval_stops_gradients() -> Finding:
    """eval() stops the gradients: backward() has no effect in eval mode."""
    network = mlp()
    weight = next(network.parameters())
    x, labels = torch.randn(64, 784), torch.randint(10, (64,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    measured = {}
    for mode in ("train", "eval"):
        network.train(mode == "train")
        optimizer.zero_grad()
        before = weight.detach().clone()
        loss = F.cross_entropy(network(x), labels)
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        measured[f"gradient_norm_{mode}_mode"] = gradient_norm(network)
        measured[f"weights_moved_by_step_{mode}_mode"] = (weight - before).abs().max().item()
    in_train_mode, in_eval_mode = measured["gradient_norm_train_mode"], measured["gradient_norm_eval_mode"]
    return judge(
        measured,
        holds=in_eval_mode == 0,
        confirmed=f"The gradient's norm is {in_train_mode:.2f} in train mode and 0 in eval mode.",
        refuted=f"The gradient's norm is {in_eval_mode:.2f} in eval mode ({in_train_mode:.2f} in train "
        f"mode), and step() moves the weights by up to {measured['weights_moved_by_step_eval_mode']:.4f}. "
        "What stops gradients is torch.no_grad().",
    )


def graph_bytes(forward: Callable[[], Tensor], network: nn.Module) -> int:
    """Bytes that autograd keeps for backward() after `forward`: the graph's peak, parameters left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()  # held until the end of the block, and with it the whole graph
        total = sum(kept.values())
        del output
    return total


SETTINGS: dict[str, tuple[bool, Callable[[], AbstractContextManager]]] = {
    "train_mode": (True, nullcontext),
    "eval_mode": (False, nullcontext),
    "eval_mode_no_grad": (False, lambda: torch.no_grad()),
    "eval_mode_inference_mode": (False, lambda: torch.inference_mode()),
}


def forward_milliseconds(network: nn.Module, x: Tensor, repetitions: int) -> dict[str, float]:
    """The fastest forward pass in each setting; in turns, so that a machine that slows down singles out none."""
    fastest = dict.fromkeys(SETTINGS, math.inf)
    for _ in range(repetitions):
        for name, (training, context) in SETTINGS.items():
            network.train(training)
            with context():
                start = time.perf_counter()
                network(x)
                fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - start))
    return fastest


def no_grad_saves_memory_and_time() -> Finding:
    """no_grad() saves memory and time, eval() alone does not."""
    network, images = image_network(), torch.randn(64, 1, 8, 8)
    megabytes = {}
    for name, (training, context) in SETTINGS.items():
        network.train(training)
        with context():
            megabytes[name] = graph_bytes(lambda: network(images), network) / 1e6
    of_images = forward_milliseconds(network, images, repetitions=8)
    of_vector = forward_milliseconds(mlp(), torch.randn(1, 784), repetitions=200)
    saved = [100 - 100 * times["eval_mode_no_grad"] / times["eval_mode"] for times in (of_images, of_vector)]
    return judge(
        {
            **{f"graph_megabytes_{name}": value for name, value in megabytes.items()},
            **{f"forward_milliseconds_64_images_{name}": value for name, value in of_images.items()},
            **{f"forward_milliseconds_one_vector_{name}": value for name, value in of_vector.items()},
        },
        holds=megabytes["eval_mode_no_grad"] == megabytes["eval_mode_inference_mode"] == 0
        and megabytes["eval_mode"] > 0.5 * megabytes["train_mode"] > 0,
        confirmed=f"For 64 images the graph keeps {megabytes['train_mode']:.1f} MB in train mode, "
        f"{megabytes['eval_mode']:.1f} MB in eval mode, {megabytes['eval_mode_no_grad']:.0f} MB under "
        "no_grad() or inference_mode(). Time depends on the machine and is reported, not judged: no_grad() "
        f"takes {saved[0]:.0f} % off a forward pass of these images, {saved[1]:.0f} % off one of the MLP "
        "with a single sample.",
        refuted=f"For 64 images the graph keeps {megabytes['train_mode']:.1f} MB in train mode, "
        f"{megabytes['eval_mode']:.1f} MB in eval mode, {megabytes['eval_mode_no_grad']:.1f} MB under "
        f"no_grad(), {megabytes['eval_mode_inference_mode']:.1f} MB under inference_mode().",
    )


def with_model_eval() -> Finding:
    """The block "with model.eval():" runs in eval mode, and at its end the model returns to train mode."""
    model = mlp().train()
    inside = None
    try:
        with model.eval():  # type: ignore[attr-defined]
            inside = model.training
        answer = "works"
    except (TypeError, AttributeError) as error:
        answer = f"{type(error).__name__}: {error}"
    after = model.training
    return judge(
        {"torch_says": answer, "block_ran": inside is not None, "training_afterwards": after},
        holds=inside is False and after is True,
        confirmed="It does in this torch; older ones raise an error.",
        refuted=f'"{answer}": the block {"never runs" if inside is None else "runs"}, and the model is left '
        "in "
        f"{'train' if after else 'eval'} mode. Write: model.eval(); with torch.no_grad(): ...; "
        "model.train().",
    )


def layers_without_mode_are_alike() -> Finding:
    """Layers without a mode (Linear, y = x A^T + b; logistic regression) behave the same in both modes."""
    linear, x = nn.Linear(784, 256), torch.randn(64, 784)
    features = torch.rand(64, 5)
    truth = (features.sum(1, keepdim=True) > 2.5).float()
    cases = {
        "linear": (linear, x),
        "logistic_regression": (logistic_regression(), features),
        "image_classifier": (image_classifier(), torch.randn(8, 256, 4, 4)),
    }
    measured: dict[str, float] = {}
    for name, (network, inputs) in cases.items():
        outputs = [network.train(training)(inputs) for training in (True, False)]
        measured[f"{name}_output_difference"] = (outputs[0] - outputs[1]).abs().max().item()
    # Logistic regression is trained in either mode too: same start, same data, same weights in the end.
    weights = []
    for training in (True, False):
        network = logistic_regression().train(training)
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            F.binary_cross_entropy(network(features), truth).backward()
            optimizer.step()
        weights.append(next(network.parameters()).detach().clone())
    measured["logistic_regression_trained_weight_difference"] = (weights[0] - weights[1]).abs().max().item()
    from_formula = (linear(x) - (x @ linear.weight.T + linear.bias)).abs().max().item()
    return judge(
        {**measured, "linear_difference_from_formula": from_formula},
        holds=max(measured.values()) == 0 and from_formula < 1e-4,
        confirmed="Linear, logistic regression and the image classifier give the same output to the bit in "
        "both modes; logistic regression trained in either mode ends at the same weights; Linear is x A^T + "
        f"b to within {from_formula:.1g}.",
        refuted=f"The outputs or the trained weights differ by up to {max(measured.values()):.2g} between "
        "the modes.",
    )


def children_follow_their_parent() -> Finding:
    """Children follow the parent's mode; a child can be set apart (MC dropout: everything in eval mode but
    dropout); model.train() resets it.
    """
    model, x = bn_dropout_network(), torch.randn(64, 64)
    children = list(model)

    def modes() -> set[bool]:
        return {child.training for child in children}

    followed = modes() == {True}
    model.eval()
    followed = followed and modes() == {False}

    for child in children:
        if isinstance(child, nn.Dropout):
            child.train()
    stored, _ = stored_statistics(model[1])
    passes = torch.stack([model(x).softmax(1) for _ in range(50)])  # [passes, samples, classes]
    spread = passes.std(0).mean().item()
    statistics_moved = (stored_statistics(model[1])[0] - stored).abs().max().item()

    model[1].eval()
    model.train()
    reset = modes() == {True}
    return judge(
        {
            "children_follow": followed,
            "mc_dropout_probability_std": spread,
            "mc_dropout_stored_mean_moved": statistics_moved,
            "train_resets_children": reset,
        },
        holds=followed and spread > 0 and statistics_moved == 0 and reset,
        confirmed=f"With only the dropout layers in train mode 50 predictions spread by {spread:.3f} "
        "(standard deviation of a probability) while BN's statistics stay; model.train() then puts every "
        "child back into train mode, also a BN that was set to eval on purpose: set it again after every "
        "model.train().",
        refuted=f"Children follow: {followed}; MC dropout spreads by {spread:.2g} and moves BN's statistics "
        f"by {statistics_moved:.2g}; model.train() resets children: {reset}.",
    )
