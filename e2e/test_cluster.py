"""What a cluster has to be able to do before anything of ours is installed on it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest
from e2e.conftest import create_namespace
from e2e.support.machine import user
from testkit.cluster.backend import Backend, Component
from testkit.cluster.images import TOOLS_IMAGE
from testkit.support.kubectl import kubectl_says, run_kubectl
from testkit.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Object = dict[str, Any]

SPACE = "e2e-cluster"
GROUP = 10002
SERVE = "echo hello > /www/index.html && echo serving && exec httpd -f -p 8080 -h /www"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": GROUP,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Pods:
    """A server with a volume behind a service."""

    cluster: Backend

    def kubectl(self, *arguments: str) -> str:
        """What kubectl says in their namespace."""
        return kubectl_says(self.cluster.kubeconfig, "--namespace", SPACE, *arguments)

    def shell(self, script: str) -> str:
        """What a shell in the server says."""
        return self.kubectl("exec", "server", "--", "sh", "-c", script)

    def tries(self, script: str) -> bool:
        """Whether a shell in the server gets it done now."""
        command = ["exec", "--namespace", SPACE, "server", "--", "sh", "-c", script]
        return run_kubectl(self.cluster.kubeconfig, *command).returncode == 0

    def lives(self) -> dict[str, tuple[str, int]]:
        """Pod to its identity and how often its containers were restarted."""
        pods = json.loads(self.kubectl("get", "pods", "--output=json"))["items"]
        return {pod["metadata"]["name"]: (pod["metadata"]["uid"], _restarts(pod)) for pod in pods}


@pytest.fixture(scope="module")
def pods(cluster: Backend) -> Iterator[Pods]:
    create_namespace(cluster, SPACE)
    for manifest in (_claim(), _service(), _pod(SERVE)):
        kubectl_says(cluster.kubeconfig, "apply", "--namespace", SPACE, "--filename=-", stdin=manifest)
    running = Pods(cluster)
    running.kubectl("wait", "pod/server", "--for=condition=Ready", "--timeout=60s")
    yield running
    kubectl_says(cluster.kubeconfig, "delete", "namespace", SPACE, "--wait=false")


def test_a_user_reaches_the_api_from_the_machine_with_the_kubeconfig(cluster: Backend) -> None:
    nodes = json.loads(kubectl_says(cluster.kubeconfig, "get", "nodes", "--output=json"))["items"]
    assert sorted(node["metadata"]["name"] for node in nodes) == sorted(cluster.capabilities.nodes)
    for node in nodes:
        conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"


def test_a_restricted_pod_resolves_names_as_in_any_cluster(pods: Pods) -> None:
    address = pods.shell(_resolve("kubernetes.default"))
    assert address.strip() == pods.shell("echo $KUBERNETES_SERVICE_HOST").strip()


def test_a_name_that_is_not_taken_is_unknown_and_not_an_error(pods: Pods) -> None:
    assert "NXDOMAIN" in pods.shell("nslookup -type=a nobody.invalid || true")


async def test_a_pod_reaches_a_service_by_its_address_even_when_it_is_its_own(pods: Pods) -> None:
    address = pods.kubectl("get", "service", "server", "--output=jsonpath={.spec.clusterIP}")
    # Not wget: a static one cannot look names up, and tries to.
    fetch = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | grep -x hello"
    await until(lambda: pods.tries(fetch), "the service answers")


def test_a_pod_reaches_the_api_server(pods: Pods) -> None:
    pods.shell("nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null")


def test_logs_and_exec_work(pods: Pods) -> None:
    assert pods.kubectl("logs", "server").strip() == "serving"
    assert pods.shell("id -u").strip() == "10001"


def test_seccomp_confines_every_container(pods: Pods) -> None:
    assert pods.shell("grep Seccomp: /proc/self/status").split() == ["Seccomp:", "2"]


def test_a_pod_that_is_not_restricted_is_refused(pods: Pods) -> None:
    privileged = _pod("true")
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused = run_kubectl(pods.cluster.kubeconfig, "create", "--namespace", SPACE, "--filename=-", stdin=privileged)
    assert "violates PodSecurity" in refused.stderr


def test_a_pod_that_is_not_root_writes_to_its_volume(pods: Pods) -> None:
    assert pods.shell("echo kept > /data/file && cat /data/file").strip() == "kept"


def test_a_volume_belongs_to_the_group_of_the_pod(pods: Pods) -> None:
    if not pods.cluster.capabilities.gives_volumes_to_group:
        pytest.skip("volumes of this backend are open to all")
    assert pods.shell("stat -c %g /data").strip() == str(GROUP)


@pytest.mark.parametrize("component", [each for each in Component if each is not Component.KWOK])
async def test_a_killed_daemon_comes_back_and_no_pod_notices(pods: Pods, component: Component) -> None:
    before = pods.lives()
    pods.cluster.kill(component)
    pods.cluster.start(component)
    kubectl_says(pods.cluster.kubeconfig, "wait", "nodes", "--all", "--for=condition=Ready", "--timeout=60s")
    await until(lambda: pods.tries(_resolve("kubernetes.default")), "a pod resolves a name")
    assert pods.lives() == before


@pytest.mark.timeout(600)
def test_a_component_that_is_killed_again_and_again_works_each_time_it_was_started(cluster: Backend) -> None:
    # Kubelet waits twice as long each time before it starts a container again: the last time for minutes.
    for _ in range(6):
        cluster.kill(Component.SCHEDULER)
        cluster.start(Component.SCHEDULER)
        assert cluster.status().components[Component.SCHEDULER] == "running"


def test_pods_reach_those_of_every_node_by_their_names(cluster: Backend) -> None:
    nodes = cluster.capabilities.nodes
    if len(nodes) == 1:
        pytest.skip(f"the cluster ({cluster.name}) has one node")
    space = "e2e-nodes"
    create_namespace(cluster, space)
    for number, node in enumerate(nodes):
        pod = _listener(f"listener-{number}", node)
        kubectl_says(cluster.kubeconfig, "apply", "--namespace", space, "--filename=-", stdin=pod)
        kubectl_says(cluster.kubeconfig, "--namespace", space, "expose", f"pod/listener-{number}", "--port=8080")
    wait = ["wait", "--namespace", space, "pods", "--all", "--for=condition=Ready", "--timeout=60s"]
    kubectl_says(cluster.kubeconfig, *wait)
    for one, other in permutations(range(len(nodes)), 2):
        asked = ["get", f"service/listener-{other}", "--output=jsonpath={.spec.clusterIP}"]
        address = kubectl_says(cluster.kubeconfig, "--namespace", space, *asked)
        script = f"({_resolve(f'listener-{other}.{space}')}) && nc -w 3 {address} 8080 < /dev/null"
        inside = ["exec", "--namespace", space, f"listener-{one}", "--", "sh", "-c", script]
        kubectl_says(cluster.kubeconfig, *inside)
    kubectl_says(cluster.kubeconfig, "delete", "namespace", space, "--wait=false")


def test_a_component_restarts_orderly_and_its_log_says_so(pods: Pods) -> None:
    pods.cluster.restart(Component.SCHEDULER)
    assert pods.cluster.logs(Component.SCHEDULER)
    assert pods.cluster.status().components[Component.SCHEDULER] == "running"


def _resolve(name: str) -> str:
    """Look a short name up in the pod's search list, as every resolver does but BusyBox' nslookup."""
    suffixes = "$(sed -n 's/^search //p' /etc/resolv.conf)"
    ask = f"nslookup -type=a {name}.$suffix | sed -n 's/^Address: //p' | grep ."
    return f"for suffix in {suffixes}; do {ask} && exit 0; done; exit 1"


def _listener(name: str, node: str) -> Object:
    """A pod of a node that listens."""
    pod = user()
    pod["metadata"] = {"name": name, "labels": {"name": name}}
    (container,) = pod["spec"]["containers"]
    container |= {"command": ["httpd", "-f", "-p", "8080", "-h", "/bin"], "volumeMounts": []}
    pod["spec"] |= {"nodeName": node, "volumes": []}
    return pod


def _restarts(pod: Object) -> int:
    return sum(each["restartCount"] for each in pod["status"]["containerStatuses"])


def _claim() -> Object:
    wish = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": wish}


def _service() -> Object:
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"}, "spec": spec}


def _pod(script: str) -> Object:
    container = {
        "name": "main",
        "image": TOOLS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "securityContext": RESTRICTED,
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "www", "mountPath": "/www"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server", "labels": {"app": "server"}},
        "spec": {
            "securityContext": UNPRIVILEGED,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "www", "emptyDir": {}},
            ],
        },
    }
