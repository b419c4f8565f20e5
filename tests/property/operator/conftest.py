"""Hypothesis without deadlines: how long an example takes depends on what else the machine is doing."""

from hypothesis import HealthCheck, settings

settings.register_profile("operator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("operator")
