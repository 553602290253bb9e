"""One forward pass in one of the modes, from the model as it was, while every BN layer's input is looked at.

The look costs little: what the audit sums up of an input also serves to normalise the batch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batch_trouble import BatchSpread, Steps
from .batches import AuditError, Forward, reason, shell_of, tensors_of
from .modes import MODES, Modes
from .moments import GroupedMoments
from .norms import Norm, StoringModule
from .preserve import Snapshot
from .sources import Quiet
from .trails import Trail

THOROUGH = 16  # after one pass in this many all bits of the model are compared


class Caller:
    """Calls a model with batches that stay as they are, bit for bit, also where the model writes into its input.

    What a model wrote, as the tensors' version counters tell, is undone after the call. Whether it writes shows at
    the first batch in each mode, of which a copy is kept; a model that does not write costs no further copies.
    """

    def __init__(self, model: nn.Module, forward: Forward):
        self.model, self.forward = model, forward
        self._writes: dict[str, bool] = {}

    def __call__(self, batch: Any, mode: str) -> Any:
        """Return the model's output; its failure becomes a sentence that names the mode."""
        may_write = self._writes.get(mode, True)
        with torch._C.DisableTorchFunction():
            tensors = [tensor for tensor in tensors_of(batch) if not tensor.is_inference()]
            versions = [tensor._version for tensor in tensors]
            take_gradients = [tensor.requires_grad for tensor in tensors]
            copies = list(map(_copy, tensors)) if may_write else []
        output = None
        try:
            output = self._output(batch, mode)
        finally:
            with torch._C.DisableTorchFunction():
                for tensor, takes_gradient in zip(tensors, take_gradients, strict=True):
                    if tensor.requires_grad != takes_gradient:
                        tensor.requires_grad_(takes_gradient)
                wrote = [tensor._version for tensor in tensors] != versions
                # Once seen to write, a model may write again, also if it left a batch alone in between.
                self._writes[mode] = wrote or self._writes.get(mode, False)
                if wrote and not may_write:
                    raise AuditError(
                        f"The model writes into some of its inputs in {mode}, but not into the first: these "
                        "batches are changed now. Let it write into a copy."
                    )
                if wrote:
                    # The output may be the very tensor that is set back.
                    output = output.clone() if isinstance(output, Tensor) else output
                    self._set_back(tensors, versions, copies, mode)
        return output

    def _set_back(self, tensors: list[Tensor], versions: list[int], copies: list[Any], mode: str) -> None:
        for tensor, version, copy in zip(tensors, versions, copies, strict=True):
            if tensor._version == version:
                continue
            if copy is None:
                raise AuditError(
                    f"The model writes in {mode} into an input that cannot be copied, which is changed now: let "
                    "it write into another tensor."
                )
            with torch.no_grad():
                tensor.copy_(copy)

    def _output(self, batch: Any, mode: str) -> Any:
        try:
            return self.forward(self.model, shell_of(batch))
        except AuditError:
            raise
        except Exception as error:
            if "more than 1 value per channel" in str(error):
                raise AuditError(
                    "In train mode BN cannot normalise a single value per channel: give batches of 2 samples or "
                    "more."
                ) from error
            if not torch.is_grad_enabled() and "does not require grad" in str(error):
                raise AuditError(
                    f"The model's forward failed in {mode}: {reason(error)}. It differentiates, and is run "
                    "without gradients: give forward=, a function of model and batch that calls the model within "
                    "torch.enable_grad()."
                ) from error
            raise AuditError(f"The model's forward failed in {mode}: {reason(error)}") from error


def _copy(tensor: Tensor) -> Tensor | None:
    """A copy of one of the user's tensors; None where there can be none, as of some that are never written to."""
    try:
        return Tensor.clone(tensor)
    except Exception:
        return None


@dataclass
class Layer:
    """One BN layer and what the passes showed of it. All moments are of its input."""

    name: str
    norm: Norm
    calls: int = 0  # per forward in train mode
    keeps: str = ""  # the mode that it is in after both `train()` and `eval()`, "train" or "eval"
    # A stream of moments for each of `MODES`; `clean` and `plain` are used from where they differ, see `stream`.
    train: GroupedMoments = field(default_factory=GroupedMoments)
    clean: GroupedMoments = field(default_factory=GroupedMoments)
    plain: GroupedMoments = field(default_factory=GroupedMoments)
    eval: GroupedMoments = field(default_factory=GroupedMoments)
    fresh: GroupedMoments = field(default_factory=GroupedMoments)
    spread: BatchSpread = field(default_factory=BatchSpread)  # of the eval stream
    steps: Steps = field(default_factory=Steps)  # of the train stream, where there are several calls
    # And of the followed batches alone, in train mode:
    noisy_part: GroupedMoments = field(default_factory=GroupedMoments)  # as it is
    local_part: GroupedMoments = field(default_factory=GroupedMoments)  # without the layer's own noise
    added: float = 0.0  # sum of the variances that noise adds to each number of these, by the exact law
    numbers: int = 0  # how many these are
    own: dict[str, None] = field(default_factory=dict)  # names of its own noise, in order
    upstream: dict[str, None] = field(default_factory=dict)
    is_tracked: bool = True  # training updates what it stores
    is_checkpointed: bool = False  # activation checkpointing calls it, twice in a training step
    is_noisy: bool = False  # noise reaches it; where none does, the clean stream is the train stream
    is_branched: bool = False  # the plain stream is not the clean one
    is_followed: bool = True  # every noise of its own could be followed to it
    has_law: bool = True  # and the exact law holds on the way

    @property
    def module(self) -> nn.Module:
        """The module itself."""
        return self.norm.module if isinstance(self.norm, StoringModule) else self.norm

    def has_stream(self, mode: str) -> bool:
        """Whether what it gets in a mode is not what it gets in the one before, from train to eval mode."""
        return {"clean": self.is_noisy, "plain": self.is_branched}.get(mode, True)

    def stream(self, mode: str) -> GroupedMoments:
        """The moments of a mode, which may be those of one before it."""
        if mode == "plain" and not self.is_branched:
            mode = "clean"
        return self.train if mode == "clean" and not self.is_noisy else getattr(self, mode)

    def note_step(self, x: Tensor) -> None:
        """Add its input in train mode to those of the same place among its calls, if there are several."""
        if self.calls > 1:
            self.steps.add(x)

    def note(self, x: Tensor, trail: Trail) -> None:
        """Note what following found out about its input x."""
        self.upstream |= dict.fromkeys(sorted(trail.upstream))
        if not trail.links:
            return
        self.own |= dict.fromkeys(link.name for link in trail.links.values())
        if trail.clean is None or trail.clean.shape != x.shape:
            self.is_followed = self.has_law = False
            return
        self.noisy_part.update(x)
        self.local_part.update(trail.clean)
        parts = [part for link in trail.links.values() if (part := link.added_variance()) is not None]
        if len(parts) < len(trail.links) or any(part.shape != x.shape for part in parts):
            self.has_law = False
        else:
            self.added += x.numel() * sum(part.mean(dtype=torch.float).item() for part in parts)
            self.numbers += x.numel()


Moments = tuple[Tensor, Tensor]  # mean and biased variance of a batch, per channel
Look = Callable[[Layer, Tensor], Moments | None]


@contextmanager
def look_at_inputs(layers: Iterable[Layer], look: Look) -> Iterator[None]:
    """Call `look(layer, x)` with every input x of each BN layer.

    A layer that normalises by its batch does so by the moments that `look` returns, if any: the same that torch's
    BN in train mode would find, which takes it several times as long on a CPU.
    """
    forwards = []
    for layer in layers:
        own = layer.module.__dict__
        with_look = _other_with_look if isinstance(layer.norm, StoringModule) else _forward_with_look
        forwards.append((layer, own, own.get("forward"), with_look))
    try:
        for layer, own, _, with_look in forwards:
            own["forward"] = with_look(layer, look)
        yield
    finally:
        for _, own, forward, _ in forwards:
            own.pop("forward", None)
            if forward is not None:
                own["forward"] = forward


def _other_with_look(layer: Layer, look: Look) -> Callable:
    """The `forward` of a module that works like BN, which looks at its input first."""
    norm: Any = layer.norm
    forward, inference = norm.module.forward, torch.is_inference_mode_enabled()

    def forward_with_look(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            _look_within(inference, look, layer, norm.view(x))
        return forward(x, *args, **kwargs)

    return forward_with_look


def _forward_with_look(layer: Layer, look: Look) -> Callable:
    """The layer's `forward`, which looks at its input first."""
    norm: Any = layer.norm
    forward, inference = norm.forward, torch.is_inference_mode_enabled()
    is_torchs = getattr(forward, "__func__", getattr(forward, "func", None)) is _BatchNorm.forward

    def forward_with_look(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["input"]
        with torch._C.DisableTorchFunction():
            is_same = torch.is_inference_mode_enabled() == inference
            moments = look(layer, x) if is_same else _look_within(inference, look, layer, x)
        if not norm.training:
            mean, variance = norm.running_mean, norm.running_var
        else:
            mean, variance = moments if moments is not None and _serve(moments, norm, x) else (None, None)
        if mean is None or variance is None or not is_torchs:
            return forward(*args, **kwargs)
        norm._check_input_dim(x)
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, norm.weight, norm.bias, mean, variance, False, 0.0, norm.eps, cudnn)

    return forward_with_look


def _look_within(inference: bool, look: Look, layer: Layer, x: Tensor) -> Moments | None:
    """Look in the inference mode of the audit, not of the model: the audit writes to what it notes later on."""
    with torch.inference_mode(inference), torch.no_grad():
        return look(layer, x)


def _serve(moments: Moments, norm: _BatchNorm, x: Tensor) -> bool:
    """Whether torch's BN would find the same moments: in its precision, and without a gradient through them."""
    is_plain = type(x) is Tensor and not torch.is_grad_enabled() and x.dtype == moments[0].dtype
    return is_plain and (norm.weight is None or norm.weight.dtype == x.dtype)


class Runner:
    """Runs batches through a model in one of `MODES`, every time from the same contents of the model.

    What a pass changes in the model, `state` takes back behind it. Random generators go on: from the same state
    they would give every batch the same noise.

    Torch has a fast path for transformers that are in eval mode and need no gradient. Training never takes it, nor
    do the passes in train mode here, even where parts of the model are in eval mode; the others take it if the
    user allows it.
    """

    def __init__(
        self, model: nn.Module, layers: Iterable[Layer], modes: Modes, forward: Forward, state: Snapshot
    ):
        self._modes, self._caller = modes, Caller(model, forward)
        self.layers, self._state = list(layers), state
        self.passes: Counter[str] = Counter()  # by mode
        self.has_fast_path = torch.backends.mha.get_fastpath_enabled() and any(
            isinstance(module, nn.MultiheadAttention) for module in model.modules()
        )

    def __call__(self, mode: str, batch: Any, look: Look, before_restoring: Callable = lambda: None) -> Any:
        """Run a batch, `look` at the input of every layer, and return the output."""
        self._modes.set(mode)
        if self.has_fast_path:
            torch.backends.mha.set_fastpath_enabled(mode not in ("train", "clean"))
        quiet = Quiet() if mode == "clean" and self._modes.has_quiet_calls else nullcontext()
        try:
            with look_at_inputs(self.layers, look), quiet:
                output = self._caller(batch, MODES[mode])
        finally:
            if self.has_fast_path:
                torch.backends.mha.set_fastpath_enabled(True)
        before_restoring()
        self._state.restore(thorough=self.passes[mode] % THOROUGH == 0)
        self.passes[mode] += 1
        return output
