"""A page that does not do what it says fails."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Database
from tests.docs.fences import fences
from tests.docs.page_runner import BlockFailed, PageRunner


@pytest.fixture
def runner(database: Database) -> Iterator[PageRunner]:
    with tempfile.TemporaryDirectory(prefix="flowworker-page-") as name:
        yield PageRunner(name="page.md", folder=Path(name), dsn=database.dsn)


def run(runner: PageRunner, page: str) -> None:
    for fence in fences(page):
        runner.run(fence)


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nraise SystemExit(3)\n```\n", "exit code 3"),
        ('```python title="odd.py"\n1 / 0\n```\n', "ZeroDivisionError"),
        ("```bash\ntrue | false\n```\n", "exit code 1"),
        ("1. In a list.\n\n   ```python\n   if True:\n       raise SystemExit(4)\n   ```\n", "exit code 4"),
        ("```bash exit=7\ntrue\n```\n", "exit code 0"),
        ("```bash parse\nif true\n```\n", "exit code 2"),
        ("```bash make\nmake no-such-target\n```\n", "no-such-target"),
        ('```bash background ready="never"\ntrue\n```\n', "never printed 'never'"),
        ("```bash\necho one\n```\n\n```text output\ntwo\n```\n", "no line 'two'"),
        ("```yaml\nkind: FlowWorker\napiVersion: flowworker.dev/v1alpha1\nspec: {}\n```\n", "handler"),
        ("```yaml\nkind: Service\napiVersion: v1\nspec: {port: 1}\n```\n", "'port' was unexpected"),
        ("```yaml values\nnamespace: shop\n```\n", "namespace"),
        ("```json\n{}\n```\n", "nothing is known about a block 'json'"),
        ("```\nplain\n```\n", "nothing is known about a block ''"),
        ("```bash skip\ntrue\n```\n", "nothing is known about a block 'bash skip'"),
    ],
)
def test_a_block_that_does_not_work_fails_its_page(runner: PageRunner, page: str, complaint: str) -> None:
    with pytest.raises(BlockFailed, match=complaint):
        run(runner, page)


def test_sql_that_fails_fails_its_page(runner: PageRunner) -> None:
    with pytest.raises(Exception, match="no_such_table"):
        run(runner, "```sql\nSELECT * FROM no_such_table\n```\n")


def test_a_background_program_that_ends_badly_fails_its_page(runner: PageRunner) -> None:
    run(
        runner,
        '```bash background ready="up"\nbash -c "trap \'exit 5\' TERM; echo up; while :; do sleep 0.1; done"\n```\n',
    )
    with pytest.raises(BlockFailed, match="ended with 5 after SIGTERM"):
        runner.close()


def test_blocks_share_a_folder_and_outputs_match_with_gaps(runner: PageRunner) -> None:
    run(
        runner,
        '```python title="numbers_of_mine.py"\nONE = 1\n```\n\n'
        "```python\nfrom numbers_of_mine import ONE\nprint('there is', ONE, 'and more')\n```\n\n"
        "```text output\nthere … more\n```\n",
    )


def test_a_failure_names_the_line_of_its_block() -> None:
    (first, second) = fences('text\n\n```bash\ntrue\n```\n\n```python title="a b.py"\npass\n```\n')
    assert (first.line, second.line) == (4, 8)
    assert second.values == {"title": "a b.py"}
