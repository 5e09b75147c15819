"""Tracking: identities of objects over time.

| file | what is in it |
|---|---|
| tracker.py | which detection continues which track |
| track_table.py | what is known of each track |
| box_motion.py | where each track is expected: a Kalman filter |
| camera_shift.py | how far the camera turned |
| assignment.py | the cheapest pairs of rows and columns |
"""

from __future__ import annotations

from edgedet.runtime.tracking.tracker import NO_TRACK, Tracker, Tracking

__all__ = ["NO_TRACK", "Tracker", "Tracking"]
