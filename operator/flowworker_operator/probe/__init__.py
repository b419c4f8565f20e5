"""Reading databases: how much there is to do, and what workers say about themselves."""

from flowworker_operator.probe.model import Key, Reading, Subject
from flowworker_operator.probe.probes import Probes
from flowworker_operator.probe.same_database import SameDatabase

__all__ = ["Key", "Probes", "Reading", "SameDatabase", "Subject"]
