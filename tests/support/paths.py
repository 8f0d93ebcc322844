"""Where the project and its neighbours on disk are found."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
"""Ray's own command."""
SHARED = ROOT.parent / "shared"
"""Data and models that are not part of the project; tests that need them skip where it is absent."""
