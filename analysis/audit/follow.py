"""Following noise through a running network, operation by operation, from where it enters to the BN layers.

A `Follower` is a torch function mode: it sees every call that a forward makes, so modules, functional calls and
control flow that torch.fx cannot trace are all the same to it. Beside each activation that noise has entered it
keeps the *clean* one: what would be there without the noise that entered since the last BN layer. The
same operations run on both, with everything further up as in training. At a BN layer the two are compared (the
local shift, exact through any nonlinearity), and behind it they are one again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from .batches import map_tensors, tensors_in
from .sources import (
    GENERATORS,
    LEAVES_TORCH,
    Draws,
    NoisyCall,
    is_noise_site,
    noisy_call,
    relative_variance,
    sharing,
)
from .trails import ByTensor, Link, Trail, follow


class Follower(TorchFunctionMode):
    """Follows forward passes of `model`, one at a time; `trail` gives that of an activation.

    At first it only notes in `noise_names` which noise there is; from `follow` on it follows that noise. It acts
    between its `__enter__` and `__exit__`, which may come again. `has_lost_draws`: random numbers went from torch
    to Python, say into an `if`, where they cannot be followed.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.noise_names: dict[str, None] = {}  # names of all noise, in order
        self.noisy: dict[str, set[nn.Module]] = {}  # by these names, the modules that call it
        self.not_by_calls: set[nn.Module] = (
            set()
        )  # modules with noise that is no single call of torch, see `Quiet`
        self._ignored: frozenset[str] | None = None  # None: no noise is followed
        self._modules = dict(model.named_modules())
        self._names = {id(module): name for name, module in self._modules.items()}
        self._calling: list[nn.Module] = [model]
        self.has_lost_draws = False
        self._trails, self._draws = ByTensor(), Draws()
        self._entered = 0
        self._hooks: list[Any] = []

    def follow(self, ignored: frozenset[str]) -> None:
        """Start anew, and follow all noise in the next pass but what is `ignored`: evaluation has it too."""
        self.noise_names, self.has_lost_draws, self._ignored = {}, False, ignored
        self.noisy, self.not_by_calls = {}, set()
        self._trails, self._draws = ByTensor(), Draws()

    def __enter__(self):
        for module in self._modules.values():
            enter = module.register_forward_pre_hook(lambda module, _: self._calling.append(module))
            leave = module.register_forward_hook(self._leave, always_call=True)
            self._hooks += [enter, leave]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        while self._hooks:
            self._hooks.pop().remove()

    def trail(self, activation: Tensor) -> Trail | None:
        """The trail of an activation of this pass; None for one that no noise has reached."""
        return self._trails.get(activation)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation, and the same one on the clean activations."""
        kwargs = kwargs or {}
        if call := noisy_call(func, args, kwargs):
            return self._run_noisy(call, func, args, kwargs)
        if getattr(func, "__name__", "") in GENERATORS:
            return self._draws.generate(func, args, kwargs)
        if not self._trails and not self._draws:  # no noise yet
            return func(*args, **kwargs)
        tensors = tensors_in((args, kwargs)) if self._draws else []
        random = [tensor for tensor in tensors if self._draws.get(tensor) is not None]
        if not random:
            return self._run(func, args, kwargs)
        if func.__name__ in LEAVES_TORCH:
            self.has_lost_draws |= self._follows(f"{self._place()}: random choice")
            return func(*args, **kwargs)
        if any(
            t.is_floating_point() and t.numel() > 1 and not any(t is draw for draw in random) for t in tensors
        ):
            return self._run_with_factor(random[0], func, args, kwargs)
        return self._draws.transform(func, args, kwargs, random)

    # --- noise enters

    def _run_noisy(self, call: NoisyCall, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a call that is noise in itself."""
        module = self._calling[-1]
        label = (
            self._label(module) if isinstance(module, _DropoutNd) else f"{self._place()}: {call.description}"
        )
        if not self._follows(label, by_call=True):
            return self._run(func, args, kwargs)
        if call.signal is None:
            quiet = tensors_in(self._run(func, call.quiet_args, call.quiet_kwargs))
            trails = [self._trails.get(tensor) for tensor in quiet]
        else:  # a copy: the call, or a later one, may write into it
            quiet, trails = [call.signal.clone()], [self._trails.get(call.signal)]
        output = func(*args, **kwargs)
        for noisy, clean, trail in zip(tensors_in(output), quiet, trails, strict=False):
            self._enter(noisy, clean, trail, Link(label, call.noise_variance, call.shares, clean))
        return output

    def _run_with_factor(self, random: Tensor, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Run an operation in which a random tensor meets an activation."""
        module = self._calling[-1]
        is_leaf = next(module.children(), None) is None
        label = self._label(module) if is_leaf else f"{self._place()}: random factor"
        if not self._follows(label):
            return self._run(func, args, kwargs)
        try:
            quiet = self._run(*self._in_place_on_copy(*self._draws.on_means(func, args, kwargs)))
        except Exception:  # then the noise has a name, but no activation without it
            quiet = None
        factor, mean = random.detach().clone(), self._draws.get(random).mean  # type: ignore[union-attr]
        output = func(*args, **kwargs)
        if isinstance(output, Tensor) and output.is_floating_point():
            clean = quiet if isinstance(quiet, Tensor) and quiet.shape == output.shape else None
            variance = None
            if func.__name__.strip("_") in ("mul", "rmul", "imul"):
                stated = getattr(module, "noise_variance", None)  # our own noise knows it exactly
                variance = stated or relative_variance(factor, mean)
            shares = sharing(factor, output) if variance is not None else ""
            trail = None if clean is None else self._trails.get(clean)
            self._enter(output, clean, trail, Link(label, variance or 0.0, shares, clean))
        return output

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Take the module off the stack; the harness's own noise is noticed here: its factor is drawn outside."""
        self._calling.pop()
        if not (is_noise_site(module) and isinstance(output, Tensor)) or output is args[0]:
            return
        label = self._label(module)
        if self._follows(label):
            with torch._C.DisableTorchFunction():
                factor: Any = module.factor
                x = args[0]
                shares = "element" if factor.shape == x.shape else ""
                self._enter(output, x, self._trails.get(x), Link(label, float(factor.var()), shares, x))

    def _follows(self, label: str, by_call: bool = False) -> bool:
        self.noise_names.setdefault(label)
        self.noisy.setdefault(label, set()).add(self._calling[-1])
        if not by_call:
            self.not_by_calls.add(self._calling[-1])
        return self._ignored is not None and label not in self._ignored

    def _enter(self, output: Tensor, quiet: Tensor | None, trail: Trail | None, link: Link) -> None:
        """Note that noise entered `output`, which is `quiet` without it; `trail` is that of `quiet`."""
        trail = trail or Trail()
        if quiet is None or trail.links or not link.shares:
            # Factors upon factors multiply, which the law of a single one does not describe.
            link = link.ended()
        self._entered += 1
        links = {event: older.ended() for event, older in trail.links.items()}
        clean = quiet if trail.clean is None and not trail.is_lost else trail.clean
        self._trails.put(output, Trail(clean, {**links, self._entered: link}, trail.upstream))

    # --- noise goes on

    def _run(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Run an operation on activations, and follow the noise that is in them."""
        trail_by_id = {
            id(tensor): (tensor, trail)
            for tensor in tensors_in((args, kwargs))
            if (trail := self._trails.get(tensor)) is not None
        }
        if not trail_by_id:
            return func(*args, **kwargs)
        trails = [trail for _, trail in trail_by_id.values()]
        if getattr(func, "__name__", "") == "batch_norm":
            output = func(*args, **kwargs)
            self._trails.put(output, Trail(upstream=frozenset().union(*(trail.names for trail in trails))))
            return output
        clean = self._clean_outputs(func, args, kwargs, trails)
        output = func(*args, **kwargs)
        outputs = tensors_in(output)
        new_links = self._followed_links(trail_by_id, func, args, kwargs, outputs)
        upstream = frozenset().union(*(trail.upstream for trail in trails))
        for index, tensor in enumerate(outputs):
            if tensor.is_floating_point():
                links = {
                    event: link[index] if isinstance(link, list) else link
                    for event, link in new_links.items()
                }
                self._trails.put(tensor, Trail(clean[index] if clean else None, links, upstream))
        return output

    def _clean_outputs(self, func: Callable, args: tuple, kwargs: dict, trails: list[Trail]) -> list[Tensor]:
        """The operation's tensors on the clean activations; none where there are no clean ones."""
        if all(trail.clean is None for trail in trails) or any(trail.is_lost for trail in trails):
            return []

        def clean(value: Tensor) -> Tensor:
            trail = self._trails.get(value)
            return value if trail is None or trail.clean is None else trail.clean

        try:
            func, args, kwargs = self._in_place_on_copy(
                func, map_tensors(args, clean), map_tensors(kwargs, clean)
            )
            return tensors_in(func(*args, **kwargs))
        except Exception:  # a clean copy that does not fit ends the following, not the pass
            return []

    def _followed_links(
        self,
        trail_by_id: dict[int, tuple[Tensor, Trail]],
        func: Callable,
        args: tuple,
        kwargs: dict,
        outputs: list,
    ) -> dict[int, Any]:
        """Every link behind the operation; see `trails.follow`."""
        new_links: dict[int, Any] = {}
        for holder, trail in trail_by_id.values():
            for event, link in trail.links.items():
                if event in new_links or not outputs:  # the same noise twice: its parts are not independent
                    new_links[event] = link.ended()
                    continue
                try:
                    shape = outputs[0].shape
                    new_links[event] = follow(link, func, self._calling[-1], args, kwargs, holder, shape)
                except Exception:  # the operation's own errors showed above: here only the prediction failed
                    new_links[event] = link.ended()
        return new_links

    def _in_place_on_copy(self, func: Callable, args: tuple, kwargs: dict) -> tuple[Callable, tuple, dict]:
        """The same call; one that may write into its first argument gets a copy, with the same trail."""
        if not _may_write(getattr(func, "__name__", ""), args, kwargs):
            return func, args, kwargs

        def copy_with_trail(tensor: Tensor) -> Tensor:
            copy = tensor.clone()
            self._trails.put(copy, self._trails.get(tensor))
            return copy

        return func, (map_tensors(args[0], copy_with_trail), *args[1:]), kwargs

    # --- names

    def _place(self) -> str:
        return self._place_of(self._calling[-1])

    def _label(self, module: nn.Module) -> str:
        rate = getattr(module, "p", None)
        rate = f" {rate:g}" if isinstance(rate, int | float) else ""
        return f"{self._place_of(module)} ({type(module).__name__}{rate})"

    def _place_of(self, module: nn.Module) -> str:
        return self._names.get(id(module), "") or "the model"


def _may_write(name: str, args: tuple, kwargs: dict) -> bool:
    """Whether a call may write into its first argument: by its name, or by a flag such as inplace=True."""
    is_in_place = name.endswith("_") and not name.endswith("__")
    is_augmented = name.startswith("__i") and name != "__init__"
    has_flag = any(value is True for value in (*args, *kwargs.values()))
    return bool(args) and (is_in_place or is_augmented or has_flag)
