"""Following noise through a running network, operation by operation, from where it enters to the BN layers.

A `Follower` is a torch function mode: it sees every call that a forward makes, so modules, functional calls and
control flow that torch.fx cannot trace are all the same to it. Beside each activation that noise has entered it
keeps the *clean* one: what would be there without the noise that entered since the last BN layer. The
same operations run on both, with everything further up as in training. At a BN layer the two are compared (the
local shift, exact through any nonlinearity), and behind it they are one again.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from analysis import theory
from analysis.audit.chain import Link, follow

DROPOUTS = {  # what shares one factor; "" for noise that is more than a factor
    **{"dropout": "element", "dropout_": "element", "alpha_dropout": "", "feature_alpha_dropout": ""},
    **{"dropout1d": "channel", "dropout2d": "channel", "dropout3d": "channel", "feature_dropout": "channel"},
}
UNIFORM = {"rand", "rand_like", "uniform_"}
NORMAL = {"randn", "randn_like", "normal_"}
BERNOULLI = {"bernoulli", "bernoulli_"}
COMPARISONS = {"lt": 0, "le": 0, "__lt__": 0, "__le__": 0, "gt": 1, "ge": 1, "__gt__": 1, "__ge__": 1}
ATTENTION = {"scaled_dot_product_attention", "multi_head_attention_forward"}


@dataclass
class Trail:
    """What is known of one activation.

    `clean`: the activation without the noise that entered since the last BN; None where it has none, or where
    following failed. `links`: that noise, by a number for each time that noise
    entered. `upstream`: the names of the noise from before the last BN.
    """

    clean: Tensor | None = None
    links: dict[int, Link] = field(default_factory=dict)
    upstream: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All noise that ever reached this activation."""
        return self.upstream | {link.name for link in self.links.values()}


class _Activations:
    """A table by tensor identity whose entries go when their tensor goes."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref, Any]] = {}

    def get(self, tensor: Tensor) -> Any:
        entry = self._entries.get(id(tensor))
        return entry[1] if entry and entry[0]() is tensor else None

    def put(self, tensor: Tensor, value: Any) -> None:
        key = id(tensor)

        def forget(reference: weakref.ref) -> None:
            if (entry := self._entries.get(key)) and entry[
                0
            ] is reference:  # another tensor may have the number by now
                del self._entries[key]

        self._entries[key] = (weakref.ref(tensor, forget), value)

    def drop(self, tensor: Tensor) -> None:
        self._entries.pop(id(tensor), None)


@dataclass(frozen=True)
class _Random:
    """A random tensor on its way to become a factor: its mean, and whether it is uniform of width 1 as yet."""

    mean: Tensor
    is_uniform: bool = False


class Follower(TorchFunctionMode):
    """Follows one forward pass of `model`; `trail` tells what is known of an activation."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self._names = {id(module): name for name, module in model.named_modules()}
        self._calling: list[nn.Module] = [model]
        self._trails, self._random = _Activations(), _Activations()
        self._events = 0
        self._hooks = []
        self._modules = list(model.modules())

    def __enter__(self):
        for module in self._modules:
            self._hooks.append(
                module.register_forward_pre_hook(lambda module, _: self._calling.append(module))
            )
            self._hooks.append(module.register_forward_hook(self._leave))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._calling.pop()
        factor = getattr(module, "factor", None)  # the harness's own noise: its factor is data, drawn outside
        if type(module).__name__ == "NoiseSite" and isinstance(factor, Tensor) and output is not args[0]:
            with torch._C.DisableTorchFunction():
                shares = "element" if factor.shape == args[0].shape else ""
                self._enter(output, args[0], float(factor.var()), shares, self._label(module))

    @property
    def has_seen_noise(self) -> bool:
        """Whether any noise entered, wherever it went."""
        return self._events > 0

    def trail(self, activation: Tensor) -> Trail | None:
        """What is known of an activation of this pass; None for one that no noise has reached."""
        return self._trails.get(activation)

    # --- one operation

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation, and the same one on the clean activations."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in DROPOUTS and _is_active_dropout(name, args, kwargs):
            return self._dropout(func, args, kwargs)
        tensors = list(_tensors((args, kwargs)))
        if name in ATTENTION and _attends_with_dropout(kwargs):
            clean = func(*args, **{**kwargs, **_without_dropout(name)})
            output = func(*args, **kwargs)
            first = lambda value: value if isinstance(value, Tensor) else value[0]  # noqa: E731
            self._enter(first(output), first(clean), 0.0, "", f"{self._place()}: attention dropout")
            return output
        if name in UNIFORM | NORMAL | BERNOULLI:
            return self._draw(name, func, args, kwargs)
        random = [tensor for tensor in tensors if self._random.get(tensor) is not None]
        if random:
            return self._with_random(name, func, args, kwargs, tensors, random)
        trails = {id(tensor): trail for tensor in tensors if (trail := self._trails.get(tensor)) is not None}
        if not trails:
            return func(*args, **kwargs)
        if name == "batch_norm":
            upstream = frozenset().union(*(trail.names for trail in trails.values()))
            output = func(*args, **kwargs)
            self._trails.put(output, Trail(upstream=upstream))
            return output
        return self._carry(name, func, args, kwargs, trails)

    def _carry(self, name: str, func: Any, args: tuple, kwargs: dict, trails: dict[int, Trail]) -> Any:
        """Run an operation on activations that noise has reached."""
        clean_outputs = self._clean_outputs(name, func, args, kwargs, trails)
        shapes_of = {id(tensor): tensor for tensor in _tensors((args, kwargs)) if id(tensor) in trails}
        links = [
            (event, link, shapes_of[key])
            for key, trail in trails.items()
            for event, link in trail.links.items()
        ]
        upstream = frozenset().union(*(trail.upstream for trail in trails.values()))
        output = func(*args, **kwargs)
        outputs = list(_tensors(output))
        followed: dict[int, Any] = {}
        for event, link, holder in links:
            if event in followed or not outputs:
                followed[event] = link.ended()
                continue
            try:
                followed[event] = follow(
                    link, func, self._calling[-1], args, kwargs, holder, outputs[0].shape
                )
            except Exception:  # the operation's own errors showed above: here only the prediction failed
                followed[event] = link.ended()
        for index, tensor in enumerate(outputs):
            if not tensor.is_floating_point():
                continue
            own = {event: part[index] if isinstance(part, list) else part for event, part in followed.items()}
            self._trails.put(tensor, Trail(clean_outputs[index] if clean_outputs else None, own, upstream))
        return output

    def _clean_outputs(
        self, name: str, func: Any, args: tuple, kwargs: dict, trails: dict[int, Trail]
    ) -> list[Tensor]:
        """The operation's tensors on the clean activations; none where there are no clean ones."""
        if all(trail.clean is None for trail in trails.values()):
            return []
        if any(trail.links and trail.clean is None for trail in trails.values()):
            return []  # lost further up

        def clean(value: Any) -> Any:
            if isinstance(value, Tensor) and id(value) in trails:
                replaced = trails[id(value)].clean
                return value if replaced is None else replaced
            return value

        clean_args, clean_kwargs = _mapped(args, clean), _mapped(kwargs, clean)
        if _is_in_place(name, args, kwargs) and clean_args:
            clean_args = (_mapped(clean_args[0], torch.clone), *clean_args[1:])
        try:
            return list(_tensors(func(*clean_args, **clean_kwargs)))
        except (
            Exception
        ):  # a clean copy that does not fit (an `out=`, a view) ends the following, not the pass
            return []

    # --- noise

    def _dropout(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        x = args[0] if args else kwargs["input"]
        rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        module, name = self._calling[-1], func.__name__
        place = self._label(module) if isinstance(module, nn.modules.dropout._DropoutNd) else self._place()
        if not isinstance(module, nn.modules.dropout._DropoutNd):
            place += f": F.{name} {rate:g}"
        shares = DROPOUTS[name]
        noise_variance = theory.noise_variance("dropout", float(rate)) if rate < 1 else float("inf")
        clean = x.clone()
        trail = self._trails.get(x)
        output = func(*args, **kwargs)
        self._enter(output, clean, noise_variance, shares, place, trail)
        return output

    def _enter(
        self,
        output: Tensor,
        x: Tensor,
        noise_variance: float,
        shares: str,
        name: str,
        trail: Trail | None = None,
    ) -> None:
        """Note that noise entered: `output` is noise on x, whose own trail is `trail`."""
        known: Trail = trail or self._trails.get(x) or Trail()
        # Noise upon noise: the factors multiply, which the law of a single one does not describe.
        link = Link(name, noise_variance, shares, x if shares and not known.links else None)
        links = {event: older.ended() for event, older in known.links.items()}
        self._events += 1
        clean = x if known.clean is None else known.clean
        is_lost = bool(known.links) and known.clean is None
        self._trails.put(
            output, Trail(None if is_lost else clean, {**links, self._events: link}, known.upstream)
        )

    def _draw(self, name: str, func: Any, args: tuple, kwargs: dict) -> Tensor:
        """Run a random generator and note the mean of what it draws, if that is plain."""
        mean: Any = 0.5 if name in UNIFORM else 0.0
        if name in BERNOULLI:
            probabilities = args[0].clone() if name == "bernoulli" else 0.5
            mean = kwargs.get("p", args[1] if len(args) > 1 else probabilities)
        plain = name not in ("uniform_", "normal_") or (len(args) == 1 and not kwargs)
        output = func(*args, **kwargs)
        if plain and isinstance(output, Tensor) and output.is_floating_point():
            mean = torch.zeros_like(output) + mean
            self._random.put(output, _Random(mean, name in UNIFORM))
        return output

    def _with_random(
        self, name: str, func: Any, args: tuple, kwargs: dict, tensors: list[Tensor], random: list[Tensor]
    ) -> Any:
        """Run an operation on random tensors: what comes out is random still, or noise on an activation."""
        drawn = {id(tensor): self._random.get(tensor) for tensor in random}
        others = [t for t in tensors if id(t) not in drawn and t.is_floating_point() and t.numel() > 1]
        means = lambda value: drawn[id(value)].mean if id(value) in drawn else value  # noqa: E731
        if others:
            return self._apply_factor(name, func, args, kwargs, others, random, means)
        is_uniform = all(known.is_uniform for known in drawn.values())
        try:
            if name in ("floor", "floor_") and is_uniform:
                mean = drawn[id(random[0])].mean - 0.5  # floor(keep + u) is 1 with probability keep
            elif name in COMPARISONS and is_uniform and len(args) == 2 and args[0] is random[0]:
                below = args[1] - drawn[id(random[0])].mean + 0.5
                mean = abs(COMPARISONS[name] - below)
            elif name.rstrip("_") in ("floor", *COMPARISONS, "ceil", "round"):
                return func(*args, **kwargs)
            else:
                mean = func(*_mapped(_mapped(args, means), _copied), **_mapped(kwargs, means))
        except Exception:
            mean = None
        output = func(*args, **kwargs)
        if isinstance(output, Tensor):
            self._random.drop(output)
            if isinstance(mean, Tensor) and output.shape == mean.shape:
                still = is_uniform and name.strip("_") in (
                    "add",
                    "radd",
                    "iadd",
                    "sub",
                    "view",
                    "reshape",
                    "to",
                )
                self._random.put(output, _Random(mean, still))
        return output

    def _apply_factor(
        self,
        name: str,
        func: Any,
        args: tuple,
        kwargs: dict,
        others: list[Tensor],
        random: list[Tensor],
        means: Any,
    ) -> Any:
        """Run an operation in which random tensors meet an activation: noise enters there."""
        trails = [trail for tensor in others if (trail := self._trails.get(tensor)) is not None]
        try:
            clean = func(*_mapped(_mapped(args, means), _copied), **_mapped(kwargs, means))
        except Exception:
            return func(*args, **kwargs)
        factor, mean = random[0].detach().clone(), self._random.get(random[0]).mean
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and isinstance(clean, Tensor):
            is_factor = name.strip("_") in ("mul", "rmul", "imul") and len(others) == 1
            stated = getattr(self._calling[-1], "noise_variance", None)  # our own noise knows it exactly
            noise_variance = (stated or _relative_variance(factor, mean)) if is_factor else None
            shares = _sharing(factor, output) if noise_variance is not None else ""
            module = self._calling[-1]
            label = self._label(module) if not list(module.children()) else f"{self._place()}: random factor"
            trail = trails[0] if len(trails) == 1 and not trails[0].links else None
            if trails and trail is None:  # noise upon noise: its clean activation is not worth the trouble
                trail = Trail(
                    None,
                    {k: v.ended() for t in trails for k, v in t.links.items()},
                    frozenset().union(*(t.upstream for t in trails)),
                )
            self._enter(output, clean, noise_variance or 0.0, shares, label, trail)
        return output

    # --- names

    def _place(self) -> str:
        return self._names.get(id(self._calling[-1]), "") or "the model"

    def _label(self, module: nn.Module) -> str:
        rate = getattr(module, "p", None)
        rate = f" {rate:g}" if isinstance(rate, int | float) else ""
        return f"{self._names.get(id(module), '') or 'the model'} ({type(module).__name__}{rate})"


def _is_active_dropout(name: str, args: tuple, kwargs: dict) -> bool:
    default = "alpha" not in name
    training = kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else default))
    rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
    return bool(training) and rate > 0


def _attends_with_dropout(kwargs: dict) -> bool:
    return kwargs.get("dropout_p", 0) > 0 and kwargs.get("training", True)


def _without_dropout(name: str) -> dict:
    return {"training": False} if name == "multi_head_attention_forward" else {"dropout_p": 0.0}


def _is_in_place(name: str, args: tuple, kwargs: dict) -> bool:
    dunder = name.startswith("__") and name.startswith("__i") and name != "__init__"
    return (
        dunder
        or (name.endswith("_") and not name.endswith("__"))
        or any(v is True for v in (*args, *kwargs.values()))
    )


def _relative_variance(factor: Tensor, mean: Tensor) -> float | None:
    """Var(m / E m): exact for a two-valued factor (0 or a), else from its entries; None if it cannot be told."""
    expected = mean.mean()
    if expected == 0 or not torch.allclose(mean, expected):
        return None
    largest = factor.max()
    if ((factor == 0) | (factor == largest)).all():
        return float(largest / expected - 1) if largest > 0 else None
    return float((factor / expected).var())


def _sharing(factor: Tensor, output: Tensor) -> str:
    if factor.shape == output.shape:
        return "element"
    if factor.dim() != output.dim() or factor.shape[0] != output.shape[0]:
        return ""
    if factor.numel() == output.shape[0]:
        return "sample"
    return (
        "channel" if factor.numel() == output.shape[0] * output.shape[1] == factor[:, :, :1].numel() else ""
    )


def _copied(value: Tensor) -> Tensor:
    return value.clone()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _mapped(value: Any, function: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(item, function) for item in value)
    if type(value) is dict:
        return {key: _mapped(item, function) for key, item in value.items()}
    return value
