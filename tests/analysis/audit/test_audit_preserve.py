"""The audit leaves the model as it was, whatever its forward does, and takes every pass from the same contents."""

import copy
import functools
import itertools
import math
import random
import threading
from collections import Counter, OrderedDict, deque

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.ao.quantization import get_default_qat_qconfig, prepare_qat
from torch.utils._python_dispatch import TorchDispatchMode

from analysis.audit import AuditError, adjust, audit, compare
from tests.analysis.audit.audit_models import images, mlp, trained, vectors


class Memory:
    """An object of the user's own, with a table of attributes."""

    def __init__(self) -> None:
        self.steps, self.inner = 0, {"last": [0.0]}


class Slotted:
    """The same without a table."""

    __slots__ = ("late", "steps")

    def __init__(self) -> None:
        self.steps = 0


class ReadOnly(dict):
    """A dict that nobody writes to but by what every dict can do."""

    def __setitem__(self, key, value):
        raise TypeError("read only")


class Hostile(nn.Module):
    """Changes everything that it holds in its forward, and fails when told to."""

    def __init__(self, fail_at=None, error=RuntimeError):
        super().__init__()
        self.body = nn.Sequential(
            nn.utils.spectral_norm(nn.Linear(16, 8)), nn.Dropout(0.5), nn.SyncBatchNorm(8)
        )
        for name in ("counter", "zero", "grown", "shrunk", "freed"):
            self.register_buffer(name, torch.zeros(3))
        self.register_buffer("low", torch.tensor([]))  # as observers of quantisation have it
        self.sparse = nn.Parameter(torch.eye(3).to_sparse())
        self.swapped, self.frozen = nn.Parameter(torch.ones(2, 3).T), nn.Parameter(torch.ones(2))
        self.frozen.grad = torch.ones(2)
        self.tensors = [torch.zeros(2), {"deep": torch.ones(3)}]
        self.calls, self.fail_at, self.error = 0, fail_at, error
        self.count = itertools.count(1).__next__  # which goes on, as nobody can set it back
        self.seen, self.cache, self.plain = [], {}, torch.zeros(2)
        self.nested = {"a": [1, (2, {"n": 3}, {4})], "b": OrderedDict(x=1, y=2), "c": deque([1, 2], maxlen=2)}
        self.nested["b"].move_to_end("x")
        self.numbers, self.objects = np.zeros((2, 2)), np.array([[], {}], dtype=object)
        self.ordered = set(range(100))
        self.ordered.difference_update({*range(100)} - {3, 64})  # a new set of these has 64 before 3
        self.constants = np.ones(2)
        self.constants.flags.writeable = False
        self.memory, self.slotted, self.settings = Memory(), Slotted(), ReadOnly(a=1)
        self.memory.model = self  # a circle
        self.generators = [
            torch.Generator(),
            np.random.default_rng(0),
            np.random.RandomState(0),
            random.Random(0),
        ]

    def forward(self, x):
        self.calls += 1
        self.counter += 1
        self.counter = self.counter.clone()
        self.zero.data.neg_()
        self.grown.resize_(4).fill_(1)
        self.shrunk.resize_(1)
        self.freed.untyped_storage().resize_(0)
        self.low.resize_(16).copy_(x.amin(0))
        with torch.no_grad():
            self.sparse.mul_(2)
        self.swapped.data = torch.zeros(5)
        self.frozen.requires_grad_(False)
        self.frozen.grad.add_(1)
        self.frozen.grad = torch.zeros(2)
        self.tensors[0] += 1
        self.tensors[-1]["deep"].data.fill_(7)
        self.tensors.insert(1, x)
        self.plain += 1
        self.seen.append(self.calls)
        self.cache[self.calls] = x
        self.nested["a"][1][1]["n"] += 1
        self.nested["a"][1][2].add(self.calls)
        self.nested["b"].move_to_end("y")
        self.nested["c"].append(self.calls)
        self.numbers.flags.writeable = True
        self.numbers += 1
        self.numbers.flags.writeable = False
        self.constants.flags.writeable = True
        self.constants += 1
        self.objects[0].append(1)
        self.objects[1] = None
        self.memory.steps += 1
        self.memory.inner["last"][0] = x
        self.slotted.steps += 1
        self.slotted.late = x
        dict.__setitem__(self.settings, "b", x)
        torch.rand(1, generator=self.generators[0])
        self.generators[1].random(), self.generators[2].rand(), self.generators[3].gauss(0, 1)
        random.random(), np.random.rand(), torch.rand(1)
        self.last = x
        self.register_forward_hook(lambda *_: None)
        self.body[1].eval() if self.calls % 2 else self.body[1].train()
        if self.count() == self.fail_at:
            self.body[2].running_mean.fill_(7)
            self.body[0].bias.data[0] = math.nan
            raise self.error("on purpose")
        return self.body(x)


def contents(value, seen):
    """Everything in a value, with identities; tensors and arrays as bytes, generators as their state."""
    if isinstance(value, type | int | float | str | None) or type(value).__name__ in ("partial", "function"):
        return value
    if id(value) in seen:
        return id(value)
    seen.add(id(value))
    every = functools.partial(contents, seen=seen)
    parts = []
    if isinstance(value, Tensor):
        bits = value.detach().to_dense() if value.is_sparse else value.detach().clone()
        parts = [value.shape, value.stride() if not value.is_sparse else 0, bits.numpy().tobytes()]
        parts += [value.requires_grad, every(value.grad) if value.is_leaf else 0]
    elif isinstance(value, np.ndarray):
        parts = (
            [*map(every, value.flat)] if value.dtype.hasobject else [value.tobytes(), value.flags.writeable]
        )
    elif isinstance(value, dict):
        parts = [(key, every(item)) for key, item in value.items()]
    elif isinstance(value, list | tuple | set | deque):
        parts = [*map(every, value)]
    elif isinstance(value, torch.Generator):
        parts = [value.get_state().numpy().tobytes()]
    elif isinstance(value, random.Random):
        return id(value), value.getstate()
    elif isinstance(value, np.random.Generator):
        parts = [str(value.bit_generator.state)]
    elif isinstance(value, np.random.RandomState):
        parts = [str(value.get_state())]
    elif isinstance(value, Slotted):
        parts = [value.steps, hasattr(value, "late")]
    return id(value), parts, every(getattr(value, "__dict__", None))


def state_of(model):
    random_state = (torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state()))
    return random_state, contents(model, set())


ACTIONS = {
    "audit": lambda model, batches: audit(model, batches, batches[:1]),
    "adjust": lambda model, batches: adjust(model, batches),
    "compare": lambda model, batches: compare({"it": model}, [(x, torch.zeros(64).long()) for x in batches]),
}


@settings(max_examples=30)
@given(
    action=st.sampled_from(sorted(ACTIONS)),
    fail_at=st.integers(1, 10),
    error=st.sampled_from([RuntimeError, KeyboardInterrupt, SystemExit]),
    training=st.booleans(),
    frozen=st.booleans(),
)
def test_the_model_is_bit_for_bit_as_before_also_after_an_error(action, fail_at, error, training, frozen):
    model = Hostile(fail_at, error)
    model.train(training)
    model.body[1].train(not training)  # modes of single modules count too
    model.body[2].weight.requires_grad_(not frozen)
    model.body[2].register_forward_pre_hook(lambda *_: None)
    before = state_of(model)
    failure = ""
    try:
        ACTIONS[action](model, vectors(3))
    except (AuditError, KeyboardInterrupt, SystemExit) as stopped:
        failure = str(stopped)
    assert "on purpose" in failure or not failure
    if failure or action != "adjust":
        assert state_of(model) == before


def test_an_error_of_the_data_leaves_the_model_as_it_was():
    model = mlp(nn.Dropout(0.5))
    before = state_of(model)

    def batches():
        yield from vectors(2)
        raise KeyError("lost")

    for action in (audit, adjust):
        with pytest.raises(AuditError, match="Reading batch 3 of the data failed: KeyError: 'lost'"):
            action(model, batches())
        assert state_of(model) == before


class Interrupting:
    """What Ctrl-C does while sets are filled again: its `__hash__` is interrupted a few times."""

    due = 0

    def __hash__(self):
        self.due -= 1
        if self.due >= 0:
            raise KeyboardInterrupt
        return 1


def test_ctrl_c_waits_until_everything_is_put_back():
    model, key = mlp(), Interrupting()
    model.early, model.keys, model.late = [1], {key}, [1]

    def forward(network, x):
        model.early.append(2), model.keys.clear(), model.late.append(2)
        key.due = 3  # behind the pass, and twice at the end
        return network(x)

    with pytest.raises(KeyboardInterrupt):
        audit(model, vectors(1), forward=forward)
    assert (model.early, model.keys, model.late) == ([1], {key}, [1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch, in its own code
def test_a_network_in_quantisation_aware_training_is_audited_and_stays_as_it_was():
    """Its observers start at infinity, and take their size from the first batch."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
    )
    model.qconfig = get_default_qat_qconfig("fbgemm")
    model = prepare_qat(model.train())
    before = state_of(model)
    assert len(audit(model, images(3))) == 2
    assert state_of(model) == before


class Drifting(nn.Module):
    """Multiplies by a number that each forward changes, and that it keeps in one `place` or another."""

    def __init__(self, place: str, drift: float):
        super().__init__()
        self.body, self.place, self.drift = mlp(), place, drift
        self.register_buffer("buffer", torch.ones(1))
        self.weight = nn.Parameter(torch.ones(1))
        self.array, self.list, self.dict, self.memory = np.ones(1), [1.0], {"scale": 1.0}, Memory()
        self.memory.scale = self.attribute = 1.0

    def scale(self) -> float:
        drift = self.drift
        if self.place == "buffer":
            self.buffer.mul_(drift)
        elif self.place == "new buffer":
            self.buffer = self.buffer * drift
        elif self.place == "past the counter":
            self.weight.data.mul_(drift)
        elif self.place == "array":
            self.array *= drift
        elif self.place == "list":
            self.list[0] *= drift
        elif self.place == "dict":
            self.dict["scale"] *= drift
        elif self.place == "object":
            self.memory.scale *= drift
        else:
            self.attribute *= drift
        numbers = self.buffer.item() * self.weight.item() * self.array[0] * self.list[0]
        return numbers * self.dict["scale"] * self.memory.scale * self.attribute / drift

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x * self.scale())


@pytest.mark.parametrize(
    "place",
    ["buffer", "new buffer", "past the counter", "array", "list", "dict", "object", "attribute"],
)
def test_every_pass_starts_from_the_same_contents(place):
    steady, drifting = Drifting(place, 1.0), Drifting(place, 2.0)
    pd.testing.assert_frame_equal(audit(drifting, vectors()), audit(steady, vectors()))
    adjust(drifting, vectors())
    adjust(steady, vectors())
    assert drifting.body[1].running_var.equal(steady.body[1].running_var)


class AlwaysStoring(nn.BatchNorm1d):
    """Moves what it stored in eval mode too, and normalises by that."""

    def forward(self, input):
        F.batch_norm(input, self.running_mean, self.running_var, training=True, momentum=0.1)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias)


def test_a_layer_that_moves_its_statistics_in_every_pass_is_measured_by_what_it_stores():
    model = nn.Sequential(nn.Linear(16, 8), AlwaysStoring(8), nn.Linear(8, 8), nn.BatchNorm1d(8))
    trained(model, vectors())
    model[1].running_var.mul_(25)
    table = audit(model, vectors())
    with torch.no_grad():
        seen = torch.cat([copy.deepcopy(model)[:3](x) for x in vectors()])
    assert table.test_var[1] == pytest.approx(seen.var(0).mean().item(), rel=1e-4)


class Copies(TorchDispatchMode):
    """Counts what is copied from and written to some tensors, by their memory."""

    def __init__(self, tensors):
        super().__init__()
        self.places = {tensor.data_ptr() for tensor in tensors}
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("clone", "copy_") and args[0].data_ptr() in self.places:
            self.counts[name, args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


def test_a_tensor_is_copied_once_and_never_written_to_where_the_model_does_not():
    model = trained(mlp(nn.Dropout(0.5)), vectors())
    with Copies([*model.parameters(), *model.buffers()]) as copies:
        audit(model, vectors(40), metric=None)
    assert copies.counts == {("clone", place): 1 for place in copies.places}


def test_a_tensor_that_one_pass_writes_to_is_put_back_behind_that_one_alone():
    model, passes = mlp(), itertools.count(1)

    def forward(network, x):
        if next(passes) == 5:
            network[0].weight.zero_()
        return network(x)

    with Copies([model[0].weight]) as copies:
        audit(model, vectors(10), forward=forward)
    assert copies.counts["copy_", model[0].weight.data_ptr()] == 1


def test_an_audit_between_forward_and_backward_does_no_harm():
    model = mlp(nn.Dropout(0.5))
    loss = model(vectors(1)[0]).square().sum()
    audit(model, vectors(3))
    loss.backward()  # fails if a tensor that it needs was written to
    assert all(parameter.grad is not None for parameter in model.parameters())


class Inward(nn.Module):
    """Runs in inference mode."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        with torch.inference_mode():
            return self.body(x)


def test_a_model_that_runs_in_inference_mode_is_audited_like_any_other():
    plain = trained(mlp(nn.Dropout(0.5)), vectors())
    inward = Inward(copy.deepcopy(plain))
    expected, table = audit(plain, vectors()), audit(inward, vectors())
    named = ["layer_name", "own_noise", "upstream_noise"]
    pd.testing.assert_frame_equal(table.drop(columns=named), expected.drop(columns=named))
    assert list(table.own_noise) == ["", "body.3 (Dropout 0.5)", ""]
    adjust(plain, vectors())
    adjust(inward, vectors())
    assert inward.body[1].running_var.equal(plain[1].running_var)


def test_a_model_made_in_inference_mode_is_left_as_it_was():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(16, 8), AlwaysStoring(8))
    before = state_of(model)
    audit(model, vectors(3), forward=lambda network, x: torch.inference_mode()(network)(x))
    assert state_of(model) == before


def test_an_audit_within_inference_mode_leaves_tensors_that_can_be_trained():
    model = Hostile()
    before = state_of(model)
    with torch.inference_mode():
        audit(model, vectors(2))
    assert state_of(model) == before
    assert not any(tensor.is_inference() for tensor in [*model.parameters(), *model.buffers()])


def test_two_threads_that_audit_one_model_wait_for_each_other():
    model = trained(mlp(nn.Dropout(0.5)), vectors())
    expected, before, tables = audit(model, vectors()), state_of(model), []
    threads = [threading.Thread(target=lambda: tables.append(audit(model, vectors()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [table.equals(expected) for table in tables] == [True] * 4
    assert state_of(model) == before


class Stream:
    """Batches that can be read once; they know how far they were read."""

    def __init__(self, count):
        self.left = vectors(count)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()


def test_data_that_the_model_holds_go_on():
    model = mlp()
    model.data = Stream(4)
    assert audit(model, model.data).attrs["batches"] == 4
    assert model.data.left == []


def test_who_holds_a_lock_is_left_alone():
    class Log:
        def __init__(self):
            self.lock, self.lines = threading.Lock(), 0

        def write(self):
            with self.lock:
                self.lines += 1

    model = mlp()
    model.log = Log()
    audit(model, vectors(1), forward=lambda network, x: model.log.write() or network(x))
    assert model.log.lines == 3


class Uncopyable(torch.Tensor):
    """A tensor that refuses to be copied."""

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("there is only one")


def test_a_tensor_that_cannot_be_copied_is_said_before_anything_runs():
    model = mlp()
    model.only = torch.Tensor._make_subclass(Uncopyable, torch.zeros(2))
    with pytest.raises(
        AuditError, match=r"Uncopyable of shape \(2,\), cannot be copied: .*there is only one"
    ):
        audit(model, vectors(1), forward=lambda *_: pytest.fail("it ran"))


def test_what_cannot_be_put_back_is_said_and_the_rest_is_put_back():
    model = mlp()
    model.early, model.array, model.late = [0], np.zeros(3), [0]

    def forward(network, x):
        model.early.append(1), model.late.append(1)
        model.array.resize(5, refcheck=False)
        return network(x)

    with pytest.raises(AuditError, match="could not be put back as it was: ValueError"):
        audit(model, vectors(1), forward=forward)
    assert model.early == model.late == [0]
