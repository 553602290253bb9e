"""Random numbers that depend on what they are for, and on nothing else.

Every random number of the harness comes from a generator made here, named by a key such as
`(seed, "noise", step, site)`. The order in which keys are asked for, the other members of a stack and
the process that asks make no difference.
"""

import hashlib

import torch


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator on `device` whose state is a hash of `key`.

    Equal keys give equal numbers on the same kind of device; different keys give independent streams.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    fresh = torch.Generator(device)
    fresh.manual_seed(int.from_bytes(digest, "little", signed=True))
    return fresh
