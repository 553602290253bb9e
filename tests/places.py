"""Where things are that several tests use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"


def real_images(folder: str) -> Path:
    """`folder` of VARIANCE_SHIFT_DATA, where the user keeps real images; the test is skipped without it."""
    if _DATA is None:
        pytest.skip("VARIANCE_SHIFT_DATA names no folder with real images")
    if not (Path(_DATA) / folder).is_dir():
        pytest.skip(f"VARIANCE_SHIFT_DATA={_DATA} has no folder {folder}")
    return Path(_DATA) / folder


# Read once: the fixture `_no_data_of_the_user` hides it from whatever a test starts.
_DATA = os.environ.get("VARIANCE_SHIFT_DATA")
