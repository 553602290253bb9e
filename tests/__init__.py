"""Tests of the harness."""

import experiments  # noqa: F401  before anything imports NumPy
