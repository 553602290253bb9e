"""What `scripts/bench` measures."""

import experiments  # noqa: F401  before anything imports NumPy
