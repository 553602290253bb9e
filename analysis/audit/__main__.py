"""Audit a network from the command line.

    python -m analysis.audit target=package.module:build data=package.module:batches
        [checkpoint=weights.safetensors] [eval_data=package.module:batches]
        [metric=package.module:function] [forward=package.module:function]
        [size=package.module:function] [frozen=keep|adjust] [out=DIR]

`build` is called without arguments and returns the model; `batches` returns the training batches, or is them.
Prints the table and the diagnosis, and writes audit.csv, audit.png, audit.svg and audit.html to out (default
outputs/audit). With class labels in the batches, of samples or pixels, it also shows the accuracy before and after
`adjust`; a metric of your own is called as metric(model, batches) and returns a number, of which higher is better.
Both are taken on eval_data where it is given. Where calling the model is not as plain as model(batch),
forward(model, batch) does it; where labels or the first tensor do not tell the samples in a batch, size(batch)
does. BN layers that stay in eval mode after model.train() are left alone by adjusting, unless frozen=adjust. Only
the modules named here are imported. Exit status 2 for input that cannot be used, 130 for Ctrl-C.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..command import check_paths, exit_status
from . import AuditError, accuracy
from .batches import check_batches, reason
from .printed import ACCURACY, print_audit
from .repair import FROZEN

KEYS = ("target", "data", "checkpoint", "eval_data", "metric", "forward", "size", "frozen", "out")


def main(arguments: list[str] | None = None) -> int:
    """Run the audit; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status("audit", lambda: run_audit(given), AuditError)


def run_audit(arguments: list[str]) -> int:
    """Audit what the arguments name; return the exit status."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0 if arguments else 2
    settings = read_settings(arguments)
    check_paths(Path(settings["out"]))
    model = _model(settings["target"], settings.get("checkpoint"))
    batches = _batches("data", settings["data"])
    eval_batches = _batches("eval_data", settings["eval_data"]) if "eval_data" in settings else None
    forward, size, own_metric = (
        _function(key, settings[key]) if key in settings else None for key in ("forward", "size", "metric")
    )
    train, test = _Again(batches), _Again(eval_batches) if eval_batches else None
    print_audit(
        model,
        settings["target"],
        train,
        test,
        Path(settings["out"]),
        forward=forward,
        size=size,
        metric=own_metric or accuracy,
        metric_name=settings.get("metric", ACCURACY),
        frozen=settings["frozen"],
    )
    return 0


def read_settings(arguments: list[str]) -> dict[str, str]:
    """Return the settings given as key=value.

    Raises AuditError in one line that names the key, the value and what is allowed.
    """
    settings = {"out": "outputs/audit", "frozen": FROZEN[0]}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in KEYS:
            raise AuditError(
                f"{argument}: no such setting; allowed are {', '.join(key + '=...' for key in KEYS)}"
            )
        settings[key] = value
    for key in ("target", "data"):
        if key not in settings:
            raise AuditError(f"{key} is missing: allowed is {key}=package.module:name")
    if settings["frozen"] not in FROZEN:
        raise AuditError(f"frozen={settings['frozen']}: allowed is {' or '.join(FROZEN)}")
    checkpoint = settings.get("checkpoint")
    if Path(settings["out"]).exists() and not Path(settings["out"]).is_dir():
        raise AuditError(
            f"out={settings['out']}: is a file; allowed is a folder, which is made if it is missing"
        )
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise AuditError(f"checkpoint={checkpoint}: allowed is a file of weights (.safetensors, .pt, .pth)")
    return settings


def _import(key: str, value: str) -> Any:
    """Import what package.module:name names."""
    module_name, colon, name = value.partition(":")
    if not (colon and module_name and name.isidentifier()):
        raise AuditError(f"{key}={value}: allowed is package.module:name")
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the user's module may raise anything
        raise AuditError(f"{key}={value}: cannot be imported: {reason(error)}") from error


def _call(key: str, value: str, function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        raise AuditError(f"{key}={value}: calling it failed: {reason(error)}") from error


def _model(target: str, checkpoint: str | None) -> nn.Module:
    source = _import("target", target)
    model = source if isinstance(source, nn.Module) else _call("target", target, source)
    if not isinstance(model, nn.Module):
        raise AuditError(f"target={target}: returned {type(model).__name__}; allowed is a torch.nn.Module")
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    return model


def load_checkpoint(model: nn.Module, checkpoint: str) -> None:
    """Load weights from a safetensors file or a torch file; the latter with weights_only, so no code runs.

    Raises AuditError if the file cannot be read or its weights do not fit.
    """
    try:
        if checkpoint.endswith(".safetensors"):
            from safetensors.torch import load_file  # type: ignore[import-not-found]

            weights = load_file(checkpoint)
        else:
            weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
            weights = weights.get("state_dict", weights)
        model.load_state_dict(weights)
    except ImportError:
        raise AuditError(
            f"checkpoint={checkpoint}: needs the package safetensors: pip install 'variance-shift[audit]'"
        ) from None
    except Exception as error:
        reason = str(error).split("\n\n")[0][:300]
        raise AuditError(f"checkpoint={checkpoint}: cannot be loaded as weights: {reason}") from error


def _batches(key: str, value: str) -> Callable[[], Iterable[Any]]:
    """Return a function that gives the batches from their start."""
    source = _import(key, value)

    def start() -> Iterable[Any]:
        batches = (
            source if isinstance(source, Iterable) or not callable(source) else _call(key, value, source)
        )
        try:
            check_batches(batches)
        except AuditError as error:
            raise AuditError(f"{key}={value}: {error}") from None
        return batches

    if isinstance(source, Iterator):
        raise AuditError(f"{key}={value}: is read only once; allowed is a function that returns the batches")
    return start


def _function(key: str, value: str) -> Any:
    function: Any = _import(key, value)
    if not callable(function):
        raise AuditError(f"{key}={value}: is of type {type(function).__name__}; allowed is a function")
    return function


class _Again:
    """Batches that can be read again where a function returns a stream of them."""

    def __init__(self, start: Callable[[], Iterable[Any]]):
        self._start = start

    def __iter__(self) -> Iterator[Any]:
        return iter(self._start())


if __name__ == "__main__":
    sys.exit(main())
