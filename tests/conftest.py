"""Settings that hold for all tests."""

from __future__ import annotations

import os

# Before anything imports torch: tests run side by side, and small tensors gain nothing from a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# matplotlib must not look for a display.
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import HealthCheck, settings

# The same examples on every machine and no time limits: a test that fails must fail again.
settings.register_profile(
    "lamina",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("lamina")
