"""A statement and the experiment that tests it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from experiments.modes.finding import FAILED, Finding
from experiments.seeds import generator


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, as fits small networks: equal numbers however many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Statement:
    """A numbered statement: the docstring of the experiment that tests it."""

    number: int
    topic: str
    experiment: Callable[[], Finding]

    @property
    def text(self) -> str:
        """The statement itself, on one line."""
        return " ".join((self.experiment.__doc__ or "").split())

    @property
    def name(self) -> str:
        """Where to read the experiment, such as experiments.modes.dropout.passes_half_of_the_data_on."""
        return f"{self.experiment.__module__}.{self.experiment.__name__}"

    def test(self, seed: int = 0) -> Finding:
        """Run the experiment; an error of its own becomes a finding that says so.

        Layers such as nn.Dropout draw from torch's global generator. It starts here from a state that `seed` and
        the number alone decide, and is left behind as it was.
        """
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(generator("modes", self.number, seed).initial_seed())
            try:
                return self.experiment()
            except Exception as error:  # whatever a torch to come raises where today's does not
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                return Finding(FAILED, f"The experiment itself failed: {reason}", {})
