"""Reading databases: how much there is to do, and what workers say about themselves."""

from flowworker_operator.database.client_certificate import ClientCertificate
from flowworker_operator.database.databases import Databases
from flowworker_operator.database.model import Key, Reading, Subject
from flowworker_operator.database.same_database import SameDatabase

__all__ = ["ClientCertificate", "Databases", "Key", "Reading", "SameDatabase", "Subject"]
