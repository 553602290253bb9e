"""Kernels as functions: compiled for the processor at hand when they are first asked for, and run by threads.

`has_kernels` decides where they are used. Elsewhere, on a GPU say, torch's own kernels compute, and LLVM is not
imported: `_llvm` is the one place that does.
"""

import ctypes
import functools
import inspect
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.kernels.language import Code, Pointer, Real

# What a thread must have to do; to start it and to wait for it takes half as long.
THREAD_NANOSECONDS = 120_000
# What a thread does in a nanosecond: multiplications with an addition, and numbers read and written, about.
PRODUCTS, NUMBERS = 100, 8


class Work(NamedTuple):
    """A kernel with its arguments."""

    machine_code: Callable[[bytes, int, int], None]
    address: int  # of it
    arguments: bytes
    tensors: tuple[Tensor, ...]  # that live as long as their addresses in `arguments` are in use

    def __call__(self, start: int, stop: int) -> None:
        """Do the part [start, stop)."""
        self.machine_code(self.arguments, start, stop)


def has_kernels(x: Tensor) -> bool:
    """Say whether kernels compute with numbers like those of x: on a CPU, in single or double precision."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


@functools.cache
def _llvm() -> Any:
    """Return LLVM, imported when a kernel, or the size of a vector, is first asked for."""
    import llvmlite.binding
    import llvmlite.ir

    return llvmlite


@functools.cache
def lanes(dtype: torch.dtype) -> int:
    """Return how many numbers of a type a vector of this processor holds."""
    features = _features()
    wide = features.get("avx2") and features.get("fma")
    size = 64 if features.get("avx512f") else 32 if wide else 16
    return size // dtype.itemsize


def largest_vector(count: int, dtype: torch.dtype) -> int:
    """Return how many numbers, a power of two, a vector may hold where there are `count` of them."""
    return min(lanes(dtype), 1 << count.bit_length() - 1)


@functools.cache
def accumulators() -> int:
    """Return in how many of its registers a kernel may sum, so that enough are left for what it reads."""
    many = _features().get("avx512f") or _features().get("neon")
    return 24 if many else 12


@functools.cache
def _features() -> dict[str, bool]:
    try:
        return dict(_llvm().binding.get_host_cpu_features())
    # LLVM knows no features of some processors.
    except RuntimeError:
        return {}


@functools.cache
def compiled(
    kernel: Callable[..., None], dtype: torch.dtype, vector: int | None = None, **constants: float
) -> Callable[..., Work]:
    """Return a kernel's machine code, as a function of its arguments that returns one of its part of the work.

        add = compiled(add_shifted, x.dtype, by=1)    # compiled when first asked for, then looked up
        add(x=x, y=y)(start, stop)                    # runs

    Arguments are passed by the names of the kernel's parameters: tensors where it takes pointers, numbers else.
    The machine code reads and writes where the tensors' first numbers lie, and heeds neither strides nor bounds;
    pointers are to numbers of `dtype` where the kernel does not say otherwise. Its vectors are the processor's,
    or have as many lanes as `vector` says.

    Raises TypeError for an argument that is missing, and for one that the kernel does not know.
    """
    parameters = list(inspect.signature(kernel).parameters.values())[1:]
    kinds = {p.name: p.annotation for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY}
    if list(kinds)[-2:] != ["start", "stop"]:
        raise TypeError(f"the last arguments of {kernel.__name__} must be start and stop")
    code = Code(_llvm().ir, kernel.__name__, list(kinds.values()), vector or lanes(dtype), 8 * dtype.itemsize)
    kernel(code, *code.arguments, **constants)
    code.builder.ret_void()
    return _binder(kernel.__name__, dict(list(kinds.items())[:-2]), _compiler().address(code))


def _binder(name: str, kinds: Mapping[str, type], address: int) -> Callable[..., Work]:
    """Return a function of arguments by name that returns the `Work` of the kernel whose entry is at `address`.

    Kernels of small networks are called many thousand times a second. The function is therefore written out with
    the kernel's own names, of which Python itself finds the missing and the unknown, as fast as for any function.
    """
    tensors = [argument for argument, kind in kinds.items() if issubclass(kind, Pointer)]
    formats = "".join("d" if kind is Real else "q" for kind in kinds.values())
    values = [f"{argument}.data_ptr()" if argument in tensors else argument for argument in kinds]
    bind = eval(
        f"lambda *, {', '.join(kinds)}: Work(code, address, pack({', '.join(values)}), ({', '.join(tensors)},))",
        {
            "Work": Work,
            "code": ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64)(address),
            "address": address,
            "pack": struct.Struct(f"={formats}").pack,
        },
    )
    bind.__name__ = bind.__qualname__ = name
    return bind


_listeners: list[Callable[[int, Callable[[int, int], None]], None]] = []


@contextmanager
def heard_by(listener: Callable[[int, Callable[[int, int], None]], None]) -> Iterator[None]:
    """Tell `listener` of the count and the work of each call of `over_threads` meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def over_threads(count: int, work: Callable[[int, int], None], nanoseconds: float) -> None:
    """Do `work(start, stop)` for the parts of range(count), as many at a time as torch has threads.

    Or as are worth their start, where each of range(count) takes about so many `nanoseconds`. Machine code lets
    other threads of Python run beside it.
    """
    for listener in _listeners:
        listener(count, work)
    threads = min(torch.get_num_threads(), count, int(count * nanoseconds / THREAD_NANOSECONDS))
    if threads <= 1:
        work(0, count)
        return
    bounds = [count * part // threads for part in range(threads + 1)]
    others = [_pool(threads).submit(work, *part) for part in pairwise(bounds[1:])]
    work(0, bounds[1])
    for other in others:
        other.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "kernels")


class _Compiler:
    """LLVM for this processor; the machine code lives as long as the process."""

    def __init__(self) -> None:
        llvm = self.llvm = _llvm().binding
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = ",".join(("+" if has else "-") + name for name, has in _features().items())
        self.processor = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=3
        )
        self.options = llvm.create_pipeline_tuning_options(speed_level=2)
        # Kernels say themselves what is unrolled and what is a vector.
        self.options.loop_unrolling = self.options.loop_vectorization = self.options.slp_vectorization = False
        self.engines: list[Any] = []

    def address(self, code: Code) -> int:
        """Compile a kernel; return where its entry begins."""
        module = self.llvm.parse_assembly(str(code.module))
        passes = self.llvm.create_pass_builder(self.processor, self.options)
        passes.getModulePassManager().run(module, passes)
        engine = self.llvm.create_mcjit_compiler(module, self.processor)
        engine.finalize_object()
        self.engines.append(engine)
        return engine.get_function_address(code.entry.name)


@functools.cache
def _compiler() -> _Compiler:
    return _Compiler()
