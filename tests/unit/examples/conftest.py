"""Puts the example's own modules on the path, the way its scripts find each other."""

from __future__ import annotations

import sys
from pathlib import Path

_DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"

# At the end: `archive`, `train` and the like must not hide another package's modules.
if str(_DIGITS) not in sys.path:
    sys.path.append(str(_DIGITS))
