"""Where a job computes, and with how many processes."""

import os

from experiments.checks import ConfigError


def choose_device(name: str):
    """Return the torch.device of the key `device`; auto is a GPU when there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise ConfigError("device", name, "auto, cpu, or a GPU that torch can use here") from error
    return device


def choose_processes(setting: int | str, device_type: str) -> int:
    """Return the number of worker processes: on a CPU one a core, because small work scales best so."""
    if setting != "auto":
        return int(setting)
    if device_type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
