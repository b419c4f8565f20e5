"""What `flowworker db status` shows."""

from tests.conftest import Database

from flowworker.database.connection import Connection
from flowworker.database.notify_setup import NotifyStatus, ensure_notify
from flowworker.database.packaged import packaged_files
from flowworker.database.status import FlowStatus, status


async def test_the_status_of_an_installed_database_has_its_ledger_queues_flows_and_notify_states(
    owner: Connection, worker: Connection
) -> None:
    await owner.execute("SELECT pgflow.create_flow('sample')")
    await owner.execute("SELECT pgflow.add_step('sample', 'only')")
    await owner.execute("SELECT pgmq.create('mail')")
    await ensure_notify(owner, "mail")
    found = await status(worker)
    assert found.flows == [FlowStatus(slug="sample", steps=1)]
    assert {queue.name: queue.notify.status for queue in found.queues} == {
        "mail": NotifyStatus.READY,
        "sample": NotifyStatus.NO_TRIGGER,
    }
    assert {entry.checksum for entry in found.ledger} == {file.checksum for file in packaged_files()}
    assert found.capabilities.core == "0.8 or 0.9"


async def test_an_empty_database_has_nothing_to_show(empty_database: Database) -> None:
    connection = await empty_database.connect()
    found = await status(connection)
    assert (found.ledger, found.queues, found.flows) == ((), (), ())
    await connection.close()
