"""Reading databases: how much there is to do, and what workers say about themselves."""

from flowworker_operator.probe.kinship import Kinship
from flowworker_operator.probe.model import Key, Reading, Subject
from flowworker_operator.probe.probes import Probes

__all__ = ["Key", "Kinship", "Probes", "Reading", "Subject"]
