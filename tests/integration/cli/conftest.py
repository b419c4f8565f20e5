from pathlib import Path

import pytest
from tests.conftest import Database
from tests.integration.cli.calling import Cli

FLOWS = """
from pydantic import BaseModel

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue


class Order(BaseModel):
    items: list[str]


shop = Flow("shop", max_attempts=1)


@shop.step
async def items(order: Order) -> list[str]:
    if not order.items:
        raise ValueError("nothing ordered")
    return order.items


@shop.map(over=items)
async def pack(item: str) -> str:
    return item.upper()


mail = Queue("mail", max_attempts=2, base_delay=0)


@mail.job
async def send(message: dict[str, str]) -> str:
    return "sent to " + message["to"]


everything = [shop, mail]
nothing = 42
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a user's flows."""
    (tmp_path / "shop_flows.py").write_text(FLOWS)
    return tmp_path


@pytest.fixture
def cli(database: Database, project: Path) -> Cli:
    """The command line in that folder, with a worker's rights."""
    return Cli(folder=project, dsn=database.worker_dsn)


@pytest.fixture
def owner_cli(database: Database, project: Path) -> Cli:
    """The command line in that folder, as the owner of the database."""
    return Cli(folder=project, dsn=database.dsn)


@pytest.fixture
def admin_cli(database: Database, project: Path) -> Cli:
    """The command line in that folder, with an administrator's rights."""
    return Cli(folder=project, dsn=database.admin_dsn)
