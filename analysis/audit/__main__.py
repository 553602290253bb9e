"""Audit a network from the command line.

    python -m analysis.audit target=package.module:build data=package.module:batches
        [checkpoint=weights.safetensors] [eval_data=package.module:batches] [out=DIR]

`build` is called without arguments and returns the model; `batches` returns the training batches, or is them.
Prints the table and the diagnosis, and writes audit.csv, audit.png, audit.svg and audit.html to out (default
outputs/audit). With class labels in the batches it also shows the accuracy before and after `adjust`.
Exit status 2 for input that cannot be used.
"""

import copy
import importlib
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from analysis.audit import AuditError, adjust, audit, compare, diagnosis
from analysis.audit.page import short_table, write_files

KEYS = ("target", "data", "checkpoint", "eval_data", "out")


def main(arguments: list[str] | None = None) -> int:
    """Run the audit; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0 if arguments else 2
    try:
        settings = read_settings(arguments)
        model = _model(settings["target"], settings.get("checkpoint"))
        batches = _batches("data", settings["data"])
        eval_batches = _batches("eval_data", settings["eval_data"]) if "eval_data" in settings else None
        table = audit(model, batches(), eval_batches() if eval_batches else None)
        comparison = _before_and_after(model, batches, eval_batches or batches)
        _print(table, comparison)
        written = write_files(table, Path(settings["out"]), settings["target"], comparison)
    except (AuditError, OSError) as error:
        print(f"audit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\nWritten: " + ", ".join(map(str, written)))
    return 0


def read_settings(arguments: list[str]) -> dict[str, str]:
    """Return the settings given as key=value.

    Raises AuditError in one line that names the key, the value and what is allowed.
    """
    settings = {"out": "outputs/audit"}
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
    checkpoint = settings.get("checkpoint")
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise AuditError(f"checkpoint={checkpoint}: allowed is a file of weights (.safetensors, .pt, .pth)")
    return settings


def _named(key: str, value: str) -> Any:
    """Import what package.module:name names."""
    module_name, colon, name = value.partition(":")
    if not (colon and module_name and name.isidentifier()):
        raise AuditError(f"{key}={value}: allowed is package.module:name")
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # the user's module may raise anything
        raise AuditError(f"{key}={value}: cannot be imported: {type(error).__name__}: {error}") from error


def _called(key: str, value: str, function: Any) -> Any:
    try:
        return function()
    except Exception as error:
        raise AuditError(f"{key}={value}: calling it failed: {type(error).__name__}: {error}") from error


def _model(target: str, checkpoint: str | None) -> nn.Module:
    found = _named("target", target)
    model = found if isinstance(found, nn.Module) else _called("target", target, found)
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
    found = _named(key, value)

    def start() -> Iterable[Any]:
        batches = _called(key, value, found) if callable(found) else found
        if not isinstance(batches, Iterable) or isinstance(batches, torch.Tensor | str):
            raise AuditError(
                f"{key}={value}: gave {type(batches).__name__}; allowed is an iterable of batches"
            )
        return batches

    return start


def _before_and_after(
    model: nn.Module, batches: Callable[[], Iterable[Any]], scored: Callable[[], Iterable[Any]]
) -> pd.DataFrame | None:
    """The accuracy before and after adjustment; None without labels or without anything to adjust."""
    try:
        adjusted = adjust(copy.deepcopy(model), batches())
    except AuditError:
        return None
    rows = [compare({name: m}, scored()) for name, m in (("before", model), ("after adjust", adjusted))]
    table = pd.concat(rows, ignore_index=True)
    return None if math.isnan(table["eval_mode"].iloc[0]) else table


def _print(table: pd.DataFrame, comparison: pd.DataFrame | None) -> None:
    print(short_table(table).to_string(index=False), end="\n\n")
    print(diagnosis(table))
    if comparison is not None:
        print("\nAccuracy, per cent\n" + comparison.to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    sys.exit(main())
