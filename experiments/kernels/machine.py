"""Kernels as functions: compiled for the processor at hand when they are first called."""

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from torch import Tensor

from experiments.kernels.code import Code, Pointer

Kernel = Callable[..., None]


@functools.cache
def lanes() -> int:
    """Return how many floats a vector of this processor holds."""
    features = _features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") and features.get("fma") else 4


@functools.cache
def accumulators() -> int:
    """Return how many registers a kernel may sum in, so that some are left for what it reads."""
    many = _features().get("avx512f") or _features().get("neon")
    return 24 if many else 12


@functools.cache
def compiled(kernel: Kernel, **constants: int) -> Callable[..., None]:
    """Return the machine code of a kernel, a function of tensors of floats, for its pointers, and of numbers.

    It reads and writes where the tensors lie, heeds neither strides nor bounds, and lets other threads of Python
    run meanwhile.
    """
    parameters = list(inspect.signature(kernel, eval_str=True).parameters.values())[1:]
    kinds = [p.annotation for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    pointers = kinds.count(Pointer)
    code = Code(kernel.__name__, pointers, len(kinds) - pointers, lanes())
    kernel(code, *code.arguments, **constants)
    code.builder.ret_void()
    call = _engine().function(code)

    def function(*arguments: Tensor | int) -> None:
        call(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))

    return function


class _Engine:
    """LLVM's compiler for this processor; what it has made lives as long as the process."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.target = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        self.made: list[Any] = []

    def function(self, code: Code) -> Callable[..., None]:
        module = llvm.parse_assembly(str(code.module))
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_unrolling = options.loop_vectorization = False  # kernels say themselves what they unroll
        llvm.create_pass_builder(self.target, options).getModulePassManager().run(
            module, llvm.create_pass_builder(self.target, options)
        )
        engine = llvm.create_mcjit_compiler(module, self.target)
        engine.finalize_object()
        self.made.append(engine)
        kinds = [ctypes.c_void_p if isinstance(a, Pointer) else ctypes.c_int64 for a in code.arguments]
        return ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(code.function.name))


@functools.cache
def _engine() -> _Engine:
    return _Engine()


@functools.cache
def _features() -> dict[str, bool]:
    return dict(llvm.get_host_cpu_features())
