"""Kernels as functions: compiled for the processor at hand when they are first asked for.

LLVM is imported then, because a GPU has no use for it.
"""

import ctypes
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from experiments.kernels.code import Code

# What a thread must have to do; to start it and to wait for it takes half as long.
THREAD_NANOSECONDS = 120_000
# What a thread does in a nanosecond: multiplications with an addition, and numbers read and written, about.
PRODUCTS, NUMBERS = 100, 8


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
    from llvmlite.binding import get_host_cpu_features

    try:
        return dict(get_host_cpu_features())
    except RuntimeError:  # LLVM knows no features of some processors
        return {}


@functools.cache
def compiled(
    kernel: Callable[..., None], dtype: torch.dtype, vector: int | None = None, **constants: float
) -> Callable[..., None]:
    """Return a kernel's machine code: a function of tensors of `dtype`, where it takes pointers, and of numbers.

    Pointers come before numbers. It reads and writes where the tensors' first numbers lie, and heeds neither
    strides nor bounds. Its vectors are the processor's, or have as many lanes as `vector` says.
    """
    from experiments.kernels.code import Code
    from experiments.kernels.values import Integer, Real

    parameters = list(inspect.signature(kernel).parameters.values())[1:]
    kinds = [p.annotation for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    code = Code(kernel.__name__, kinds, vector or lanes(dtype), 8 * dtype.itemsize)
    kernel(code, *code.arguments, **constants)
    code.builder.ret_void()
    c_types = [ctypes.c_double if kind is Real else ctypes.c_int64 for kind in kinds]
    call = ctypes.CFUNCTYPE(None, *c_types)(_compiler().address(code))
    pointers = sum(kind not in (Integer, Real) for kind in kinds)

    def function(*arguments: Any) -> None:
        call(*[tensor.data_ptr() for tensor in arguments[:pointers]], *arguments[pointers:])

    return function


def over_threads(count: int, work: Callable[[int, int], None], nanoseconds: float) -> None:
    """Do `work(start, stop)` for the parts of range(count), as many at a time as torch has threads.

    Or as are worth their start, where each of range(count) takes about so many `nanoseconds`. Machine code lets
    other threads of Python run beside it.
    """
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
    """LLVM for this processor; what it has made lives as long as the process."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = ",".join(("+" if has else "-") + name for name, has in _features().items())
        self.processor = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features, opt=3
        )
        self.options = llvm.create_pipeline_tuning_options(speed_level=2)
        # Kernels say themselves what is unrolled and what is a vector.
        self.options.loop_unrolling = self.options.loop_vectorization = self.options.slp_vectorization = False
        self.made: list[Any] = []

    def address(self, code: "Code") -> int:
        """Compile a finished function; return where its machine code begins."""
        llvm = self.llvm
        module = llvm.parse_assembly(str(code.module))
        passes = llvm.create_pass_builder(self.processor, self.options)
        passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, self.processor)
        engine.finalize_object()
        self.made.append(engine)
        return engine.get_function_address(code.function.name)


@functools.cache
def _compiler() -> _Compiler:
    return _Compiler()
