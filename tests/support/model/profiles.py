"""Hypothesis settings of the model tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("WORKYARD_MODEL_EXAMPLES", "0"))
STEPS = 50


def profile(in_ci: int) -> settings:
    """Return the settings of an exploration: different examples every time, for the given duration."""
    return settings(
        max_examples=EXAMPLES or in_ci,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
