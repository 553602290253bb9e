"""The folder of a study."""

from pathlib import Path

import pytest


@pytest.fixture
def study(tmp_path) -> Path:
    return tmp_path / "study"
