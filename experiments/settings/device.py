"""Where a job computes, and with how many processes."""

import os
import re

from experiments.checks import Rule, not_allowed

DEVICE = Rule(
    "auto, cpu, cuda, cuda:NUMBER or mps",
    lambda value: isinstance(value, str) and re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", value) is not None,
)
MOST_PROCESSES = 16  # a core; each takes half a gigabyte of memory


def choose_device(name: str):
    """Return the torch.device of the key `device`; auto is a GPU when there is one.

    From then on convolutions of float32 are computed in float32 on a GPU of Nvidia's, too. Raises ConfigError when
    torch cannot compute on it here.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False  # by default they round their inputs to 10 bits
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise not_allowed("device", name, "auto, cpu, or a GPU that torch can use on this machine") from error
    return torch.device(name)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_processes(setting: int | str, device_type: str, cores: int | None = None) -> int:
    """Return the number of worker processes: on a CPU one a core, because small work scales best so.

    `cores` is how many the job has to itself; None means all that this process may use. Raises ConfigError for
    many times as many processes.
    """
    if setting != "auto":
        most = MOST_PROCESSES * (cores or available_cores())
        if int(setting) > most:
            raise not_allowed(
                "processes", setting, f"auto, or a whole number from 1 to {most}, {MOST_PROCESSES} a core"
            )
        return int(setting)
    if device_type != "cpu":
        return 1
    return cores or available_cores()
