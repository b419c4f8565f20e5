"""Faults of pods, in words."""

from typing import Any

import pytest
from tests.unit.operator.samples import condition, planned, pod, report, revision

from flowworker.errors import ExitCode, ShapeMismatchError
from flowworker_operator.api.conditions import MEANINGS, Reason
from flowworker_operator.domain.health import explained, pod_fault, revision_fault
from flowworker_operator.domain.snapshot import ContainerState, Fault, Obstacle

MISMATCH = str(ShapeMismatchError("report", ["step total is missing"]))


def fault_of(**state: Any) -> Fault:
    container = ContainerState(name="worker", **state)
    fault = pod_fault(pod("a", ready=False, report=None, containers=(container,)), "flow", "report")
    assert fault is not None
    return fault


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"waiting_reason": "ImagePullBackOff", "waiting_message": "not found"}, Reason.IMAGE_PULL),
        ({"waiting_reason": "ErrImagePull"}, Reason.IMAGE_PULL),
        ({"waiting_reason": "InvalidImageName"}, Reason.IMAGE_PULL),
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "api-keys" not found'},
            Reason.BAD_SECRET,
        ),
        (
            {"waiting_reason": "CreateContainerConfigError", "waiting_message": "couldn't find key uri in Secret x/y"},
            Reason.BAD_SECRET,
        ),
        ({"waiting_reason": "RunContainerError", "waiting_message": "no such file: nope"}, Reason.TEMPLATE_REFUSED),
        ({"exit_code": 137, "ended_reason": "OOMKilled"}, Reason.OUT_OF_MEMORY),
        ({"exit_code": int(ExitCode.USAGE), "ended_message": "FLOWWORKER_BATCH_SIZE"}, Reason.BAD_SETTINGS),
        ({"exit_code": int(ExitCode.DATA), "ended_message": MISMATCH}, Reason.SHAPE_MISMATCH),
        (
            {"exit_code": int(ExitCode.DATA), "ended_message": "the database has no flow 'report'"},
            Reason.SCHEMA_MISSING,
        ),
        ({"exit_code": int(ExitCode.DATA), "ended_message": "found a pgmq older than"}, Reason.SCHEMA_UNSUPPORTED),
        ({"exit_code": int(ExitCode.HANDLER), "ended_message": "no module named app"}, Reason.BAD_HANDLER),
        ({"exit_code": int(ExitCode.UNAVAILABLE)}, Reason.DATABASE_UNREACHABLE),
        ({"exit_code": int(ExitCode.ACCESS)}, Reason.DATABASE_REFUSED),
        ({"exit_code": int(ExitCode.INTERNAL)}, Reason.CRASH_LOOP),
        ({"exit_code": 1, "ended_message": "Traceback"}, Reason.CRASH_LOOP),
        ({"exit_code": int(ExitCode.USAGE), "ended_reason": "OOMKilled"}, Reason.BAD_SETTINGS),
        ({"exit_code": int(ExitCode.INTERNAL), "ended_reason": "OOMKilled"}, Reason.CRASH_LOOP),
        ({"exit_code": 143, "ended_reason": "OOMKilled"}, Reason.CRASH_LOOP),
        ({"exit_code": 137, "ended_reason": "Error"}, Reason.CRASH_LOOP),
    ],
)
def test_a_container_that_does_not_start_is_explained(state: dict[str, Any], reason: Reason) -> None:
    fault = fault_of(**state)
    assert fault.reason is reason
    assert "pod a" in fault.message
    assert state.get("ended_message", state.get("waiting_message", "")) in fault.message


def test_a_child_that_was_killed_for_memory_is_named_and_is_not_the_reason() -> None:
    fault = fault_of(exit_code=int(ExitCode.HANDLER), ended_reason="OOMKilled")
    assert fault.reason is Reason.BAD_HANDLER
    assert fault.message.endswith("exit code 66; a process that it had started was killed for its memory")


def test_words_that_hold_a_password_are_redacted() -> None:
    fault = fault_of(exit_code=1, ended_message="cannot reach postgresql://app:hunter2@db/app")
    assert "hunter2" not in fault.message


@pytest.mark.parametrize("code", [None, 0])
def test_a_container_that_ended_well_is_no_fault(code: int | None) -> None:
    container = ContainerState(name="worker", exit_code=code)
    assert pod_fault(pod("a", ready=False, report=None, containers=(container,)), "flow", "report") is None


def test_a_pod_without_a_node_is_explained() -> None:
    fault = pod_fault(pod("a", ready=False, unschedulable="0/3 nodes: insufficient memory"), "flow", "report")
    assert fault is not None
    assert (fault.reason, "insufficient memory" in fault.message) == (Reason.UNSCHEDULABLE, True)


MOUNT = 'MountVolume.SetUp failed for volume "keys" : '


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (Obstacle(reason="FailedMount", message=f'{MOUNT}secret "api" not found'), Reason.BAD_SECRET),
        (Obstacle(reason="FailedMount", message=f"{MOUNT}references non-existent secret key: a"), Reason.BAD_SECRET),
        (Obstacle(reason="FailedMount", message=f'{MOUNT}configmap "api" not found'), Reason.BAD_CONFIG_MAP),
        (
            Obstacle(reason="FailedMount", message=f"{MOUNT}references non-existent config key: a"),
            Reason.BAD_CONFIG_MAP,
        ),
        (Obstacle(reason="FailedMount", message=f"{MOUNT}mount failed: exit status 32"), Reason.VOLUME_NOT_MOUNTED),
        (Obstacle(reason="FailedAttachVolume", message="Multi-Attach error for volume"), Reason.VOLUME_NOT_MOUNTED),
        (Obstacle(reason="FailedCreatePodSandBox", message="cni plugin not initialized"), Reason.NO_SANDBOX),
    ],
)
def test_a_pod_whose_containers_are_not_created_is_explained(obstacle: Obstacle, reason: Reason) -> None:
    container = ContainerState(name="worker", waiting_reason="ContainerCreating")
    hanging = pod("a", ready=False, report=None, containers=(container,), obstacle=obstacle)
    fault = pod_fault(hanging, "flow", "report")
    assert fault is not None
    assert (fault.reason, obstacle.message in fault.message) == (reason, True)


def test_an_image_that_cannot_be_pulled_hides_an_older_obstacle() -> None:
    container = ContainerState(name="worker", waiting_reason="ErrImagePull", waiting_message="not found")
    obstacle = Obstacle(reason="FailedMount", message="was there before")
    fault = pod_fault(pod("a", ready=False, containers=(container,), obstacle=obstacle), "flow", "report")
    assert fault is not None
    assert fault.reason is Reason.IMAGE_PULL


def test_a_volume_is_explained_by_what_it_is_made_from() -> None:
    obstacle = Obstacle(reason="FailedMount", message=f"{MOUNT}references non-existent secret key: a")
    assert explained(obstacle, {"keys": "secret api"}).message == f"{obstacle.message} (secret api)"
    assert explained(obstacle, {"other": "secret api"}) == obstacle


def test_a_handler_that_serves_another_flow_is_explained() -> None:
    fault = pod_fault(pod("a", report=report(slug="other")), "flow", "report")
    assert fault is not None
    assert fault.reason is Reason.BAD_HANDLER
    assert "serves flow 'other', but the spec says flow 'report'" in fault.message


def test_a_past_crash_of_a_pod_that_is_ready_is_forgotten() -> None:
    container = ContainerState(name="worker", exit_code=1)
    assert pod_fault(pod("a", containers=(container,)), "flow", "report") is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: small', Reason.QUOTA),
        ('pods "x" is forbidden: failed quota: small: must specify limits.cpu', Reason.QUOTA),
        ('pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi', Reason.QUOTA),
        ('pods "x" is forbidden: cpu max limit to request ratio per Pod is 2, but provided ratio is 4', Reason.QUOTA),
        ('pods "x" is forbidden: violates PodSecurity "restricted"', Reason.TEMPLATE_REFUSED),
    ],
)
def test_pods_that_are_not_created_are_explained(words: str, reason: Reason) -> None:
    fault = revision_fault(revision(replicas=1, refusal=words), "flow", "report")
    assert fault is not None
    assert (fault.reason, words in fault.message) == (reason, True)


def test_a_refusal_that_was_overcome_is_forgotten() -> None:
    assert revision_fault(revision(pod("a"), refusal="exceeded quota"), "flow", "report") is None


def test_a_fault_reaches_ready_before_the_deadline() -> None:
    container = ContainerState(name="worker", waiting_reason="ImagePullBackOff", waiting_message="no such tag")
    failing = pod("a", ready=False, report=None, containers=(container,))
    ready = condition(planned(revision(failing, proven=False)), "Ready")
    assert (ready.status, ready.reason) == ("False", "ImagePull")
    assert "no such tag" in ready.message


def test_one_bad_pod_among_good_ones_is_reported_but_changes_nothing() -> None:
    container = ContainerState(name="worker", exit_code=1, ended_message="boom")
    ready = condition(planned(revision(pod("a"), pod("b", ready=False, containers=(container,)))), "Ready")
    assert (ready.status, ready.reason) == ("True", "Running")
    assert "1 of 2 workers are ready" in ready.message
    assert "boom" in ready.message


def test_every_reason_is_explained_to_users() -> None:
    assert MEANINGS.keys() == set(Reason)


@pytest.mark.parametrize("line_end", ["\n", " "])
def test_the_end_of_a_log_begins_with_a_whole_line_or_word(line_end: str) -> None:
    log = f"cannot reach postgresql://app:hunter2-secret@db/app{line_end}" + f"and more words{line_end}" * 200
    for length in range(2045, 2049):
        whole = log[: log.index("secret") + length][-length:]
        assert whole.startswith("secret@db")
        fault = fault_of(exit_code=1, ended_message=whole)
        assert "secret" not in fault.message
        assert "and more words" in fault.message


def test_a_password_that_the_end_of_what_is_shown_cuts_is_hidden_first() -> None:
    for before in range(470, 520):
        words = "x" * before + " postgresql://app:hunter2-secret@db/app " + "word " * 100
        assert "hunter" not in fault_of(exit_code=1, ended_message=words).message


def test_characters_that_are_not_seen_hide_no_password_in_a_fault() -> None:
    assert "hunter2" not in fault_of(exit_code=1, ended_message="pass\u200bword=hunter2").message
