"""The weights of members, with members.save=true: a safetensors file each, in the folder `weights` of their part.

A part's record says how large each file is, and its sha256. The size is looked at by every command, the sha256
when the file is read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from experiments.checks import ConfigError, regular_file
from experiments.members import Member
from experiments.study.files import all_or_nothing, listed, naming

WEIGHTS = "weights"
Recorded = dict[str, list]  # by a file's name: its bytes and its sha256


def weights_file(folder: Path, member: Member) -> Path:
    """Return where the weights of a member lie in the folder of its part."""
    noise = f"{member.placement}-{member.noise}-{member.strength!r}"
    numbers = f"seed{member.seed}-lr{member.lr!r}-decay{member.weight_decay!r}"
    return folder / WEIGHTS / f"{noise}-{numbers}.safetensors"


def save_weights(folder: Path, member: Member, state: Mapping[str, Tensor]) -> None:
    """Write parameters and statistics of a member, all or nothing; the file's metadata say which member it is."""
    from safetensors.torch import save

    path = weights_file(folder, member)
    path.parent.mkdir(exist_ok=True)
    content = save(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        {"member": json.dumps(asdict(member))},
    )
    with all_or_nothing(path, "xb") as file:
        file.write(content)


def read_weights(folder: Path, member: Member, recorded: Recorded) -> dict[str, Tensor]:
    """Return what `save_weights` wrote. Raises ConfigError for a file that is not as it was written."""
    from safetensors.torch import load

    path = weights_file(folder, member)
    with naming(path):
        content = regular_file(path).read_bytes()
    if recorded[path.name] != [len(content), hashlib.sha256(content).hexdigest()]:
        raise ConfigError(f"{path}: not as it was written; drop the member and train it again")
    return load(content)


def written_weights(folder: Path, member: Member) -> dict[str, Tensor]:
    """Return what `save_weights` has written for a part that is not whole yet."""
    from safetensors.torch import load

    return load(weights_file(folder, member).read_bytes())


def weights_there(folder: Path) -> Recorded:
    """Return what a part's record says of the files of weights in its folder."""
    found: Recorded = {}
    for path in listed(folder / WEIGHTS):
        with naming(path):
            content = regular_file(path).read_bytes()
        found[path.name] = [len(content), hashlib.sha256(content).hexdigest()]
    return found


def are_as_recorded(folder: Path, recorded: Recorded) -> bool:
    """Say whether all files of weights are there, as large as they were."""
    there = {path.name: path.stat().st_size for path in listed(folder / WEIGHTS)}
    return all(there.get(name) == size for name, (size, _) in recorded.items())


def saved_members(recorded: Recorded, members: Iterable[Member]) -> set[Member]:
    """Return those of `members` whose weights are there."""
    return {member for member in members if weights_file(Path(), member).name in recorded}
