"""What becomes of a spec in Kubernetes."""

import time
from typing import Any

import pytest
from tests.unit.operator.samples import make_spec

from flowworker.settings import PREFIX, Settings, load_settings, variable
from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.domain.naming import own_labels
from flowworker_operator.render.drift import drifted
from flowworker_operator.render.rendering import Owner, render

OWNER = Owner(namespace="shop", name="report", uid="1")


def revision_of(spec: FlowWorkerSpec) -> str:
    return render(OWNER, spec).revision


def template(**changes: Any) -> dict[str, Any]:
    return render(OWNER, make_spec(**changes)).deployment(grace=75)["spec"]["template"]


def pod(**changes: Any) -> dict[str, Any]:
    return template(**changes)["spec"]


def worker(**changes: Any) -> dict[str, Any]:
    return next(container for container in pod(**changes)["containers"] if container["name"] == "worker")


def with_worker(**fields: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "worker", **fields}]}}}


def variables(**changes: Any) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in worker(**changes)["env"]}


def test_every_variable_is_a_setting_of_the_worker() -> None:
    database = {"secretRef": {"name": "a"}, "directSecretRef": {"name": "b"}}
    names = variables(database=database, worker={"drainTimeoutSeconds": 5}).keys()
    assert {name.removeprefix(PREFIX).lower() for name in names} <= Settings.model_fields.keys()


def test_the_settings_take_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"minPollIntervalMilliseconds": 250, "signalStrategy": "Notify", "compile": "Verify"}
    for name, value in variables(worker=options).items():
        monkeypatch.setenv(name, value or "x")
    monkeypatch.setenv(variable("pod_uid"), "uid")
    settings = load_settings()
    assert (settings.min_poll_interval, settings.signal_strategy, settings.compile) == (0.25, "notify", "verify")
    assert (settings.when_drained, settings.probe_port) == ("wait", 8080)


def test_the_connection_string_is_a_file_and_nothing_else() -> None:
    (volume, _) = pod()["volumes"]
    assert volume["secret"]["items"] == [{"key": "uri", "path": "uri"}]
    (mount, _) = worker()["volumeMounts"]
    assert f"{mount['mountPath']}/uri" == variables()["FLOWWORKER_DATABASE_FILE"]
    assert not any("secretKeyRef" in str(entry) for entry in worker()["env"])


def test_behind_a_pooler_statements_are_not_cached() -> None:
    through = variables(database={"secretRef": {"name": "a"}, "directSecretRef": {"name": "b"}})
    assert through["FLOWWORKER_STATEMENT_CACHE"] == "false"
    assert "FLOWWORKER_STATEMENT_CACHE" not in variables()


OWNED = {"secretRef": {"name": "a"}, "ownerSecretRef": {"name": "owner"}}


def test_a_pod_of_its_own_compiles_as_the_owner_and_no_worker_has_the_secret() -> None:
    spec = make_spec(database=OWNED, worker={"signalStrategy": "Notify"})
    made = render(OWNER, spec).compiler_pod()
    (compiler,) = made["spec"]["containers"]
    assert compiler["args"][:3] == ["flows", "compile", "app.flows:report"]
    assert "--notify" in compiler["args"]
    assert made["spec"]["restartPolicy"] == "OnFailure"
    assert "owner" not in str(pod(database=OWNED))


def test_the_pod_that_compiles_is_none_that_a_replica_set_counts_and_starts_where_workers_do() -> None:
    template = {
        "metadata": {"labels": {"team": "web"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "initContainers": [{"name": "warm"}],
            "containers": [{"name": "worker"}, {"name": "beside"}],
        },
    }
    made = render(OWNER, make_spec(database=OWNED, template=template)).compiler_pod()
    assert made["metadata"]["labels"] == {"team": "web", **own_labels("report")}
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "flowworker-compile"
    assert made["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert "initContainers" not in made["spec"]
    assert [container["name"] for container in made["spec"]["containers"]] == ["flowworker-compile"]


def test_what_the_owner_compiles_is_part_of_the_revision() -> None:
    other = {**OWNED, "ownerSecretRef": {"name": "other"}}
    databases = ({"secretRef": {"name": "a"}}, OWNED, other)
    assert len({revision_of(make_spec(database=database)) for database in databases}) == 3


def test_pods_run_restricted_and_without_credentials() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert worker()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_services_do_not_leak_into_the_settings() -> None:
    assert pod(template={"spec": {"enableServiceLinks": True}})["enableServiceLinks"] is False


def test_what_the_user_adds_to_the_worker_stays() -> None:
    fields = {"resources": {"limits": {"memory": "1Gi"}}, "envFrom": [{"secretRef": {"name": "api-keys"}}]}
    container = worker(**with_worker(**fields))
    assert {key: container[key] for key in fields} == fields


def test_the_users_variables_come_last_and_cannot_replace_ours() -> None:
    env = [{"name": "FLOWWORKER_PROBE_PORT", "value": "1"}, {"name": "MODE", "value": "$(FLOWWORKER_POD_NAME)"}]
    entries = worker(**with_worker(env=env))["env"]
    assert entries[-1] == env[1]
    assert [entry["value"] for entry in entries if entry["name"] == "FLOWWORKER_PROBE_PORT"] == ["8080"]


def test_image_and_arguments_are_those_of_the_spec() -> None:
    container = worker(**with_worker(image="other", args=["sleep"]))
    assert (container["image"], container["args"]) == ("registry.example/report:1", ["run", "app.flows:report"])


def test_a_probe_of_the_users_wins() -> None:
    probe = {"httpGet": {"path": "/livez", "port": 8080}, "failureThreshold": 999}
    assert worker(**with_worker(startupProbe=probe))["startupProbe"] == probe


def test_volumes_of_the_users_are_mounted_next_to_ours() -> None:
    fragment = {
        "volumes": [{"name": "app", "configMap": {"name": "app"}}],
        "containers": [{"name": "worker", "volumeMounts": [{"name": "app", "mountPath": "/app"}]}],
    }
    assert pod(template={"spec": fragment})["volumes"][-1]["name"] == "app"
    assert [mount["mountPath"] for mount in worker(template={"spec": fragment})["volumeMounts"]][-1] == "/app"


def test_a_scratch_directory_of_the_users_replaces_ours() -> None:
    mounts = worker(**with_worker(volumeMounts=[{"name": "big", "mountPath": "/tmp"}]))["volumeMounts"]
    assert [mount["name"] for mount in mounts if mount["mountPath"] == "/tmp"] == ["big"]


def test_sidecars_and_other_fields_of_the_pod_stay() -> None:
    fragment = {"containers": [{"name": "proxy", "image": "proxy:1"}], "nodeSelector": {"disk": "ssd"}}
    rendered = pod(template={"spec": fragment})
    assert [container["name"] for container in rendered["containers"]] == ["worker", "proxy"]
    assert rendered["nodeSelector"] == {"disk": "ssd"}


def test_our_labels_win() -> None:
    labels = {"team": "web", "flowworker.dev/name": "stolen"}
    rendered = template(template={"metadata": {"labels": labels}})["metadata"]["labels"]
    assert (rendered["team"], rendered["flowworker.dev/name"]) == ("web", "report")


def test_a_slug_that_is_no_label_is_an_annotation() -> None:
    rendered = template(flow="_report")["metadata"]
    assert rendered["annotations"]["flowworker.dev/flow"] == "_report"
    assert "_report" not in rendered["labels"].values()


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "registry.example/report:2"},
        {"handler": "app.flows:other"},
        {"database": {"secretRef": {"name": "other"}}},
        {"worker": {"batchSize": 1}},
        {"worker": {"drainTimeoutSeconds": 1}},
        {"template": {"metadata": {"labels": {"team": "web"}}}},
        {"template": {"spec": {"terminationGracePeriodSeconds": 5}}},
    ],
)
def test_what_a_pod_is_made_of_makes_a_new_revision(changes: dict[str, Any]) -> None:
    assert revision_of(make_spec(**changes)) != revision_of(make_spec())


@pytest.mark.parametrize(
    "changes",
    [{"scaling": {"maxReplicas": 3}}, {"replicas": 7}, {"rollout": {"progressDeadlineSeconds": 10}}, {"worker": {}}],
)
def test_anything_else_does_not(changes: dict[str, Any]) -> None:
    assert revision_of(make_spec(**changes)) == revision_of(make_spec())


def test_replicas_are_only_part_of_a_new_deployment() -> None:
    spec = make_spec()
    assert render(OWNER, spec).deployment(grace=75, replicas=1)["spec"]["replicas"] == 1
    assert "replicas" not in render(OWNER, spec).deployment(grace=75)["spec"]


def test_the_selector_picks_the_pods_of_one_revision() -> None:
    rendered = render(OWNER, make_spec()).deployment(grace=75)
    selector = rendered["spec"]["selector"]["matchLabels"]
    assert selector.items() <= rendered["spec"]["template"]["metadata"]["labels"].items()
    assert render(OWNER, make_spec()).disruption_budget()["spec"]["selector"]["matchLabels"].items() <= selector.items()


def test_defaults_and_fields_of_others_are_no_drift() -> None:
    rendered = render(OWNER, make_spec()).deployment(grace=75)
    live = render(OWNER, make_spec()).deployment(grace=75, replicas=4)
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    live["spec"]["template"]["spec"]["containers"].insert(0, {"name": "mesh", "image": "mesh:1"})
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "IfNotPresent"
    del live["spec"]["template"]["spec"]["volumes"][1]["emptyDir"]
    assert not drifted(rendered, live)


@pytest.mark.parametrize("what", ["image", "label", "variable", "volume", "owner"])
def test_a_field_of_ours_that_is_changed_or_gone_is_drift(what: str) -> None:
    live = render(OWNER, make_spec()).deployment(grace=75, replicas=4)
    spec = live["spec"]["template"]["spec"]
    match what:
        case "image":
            spec["containers"][0]["image"] = "other"
        case "label":
            del live["metadata"]["labels"]["flowworker.dev/name"]
        case "variable":
            spec["containers"][0]["env"].pop()
        case "volume":
            spec["volumes"].pop(0)
        case _:
            live["metadata"]["ownerReferences"] = []
    assert drifted(render(OWNER, make_spec()).deployment(grace=75), live)


@pytest.mark.parametrize(
    ("written", "stored"),
    [("0.5", "500m"), ("1024Mi", "1Gi"), ("1000m", "1"), (1, "1"), ("1e3", "1k"), ("2.5Gi", "2560Mi")],
)
def test_a_quantity_in_other_words_is_no_drift(written: object, stored: str) -> None:
    assert not drifted({"limits": {"cpu": written}}, {"limits": {"cpu": stored}})


@pytest.mark.parametrize("text", ["1" * 200_000 + "x", "1e" + "9" * 5000, "1e999999999", "1" * 65])
def test_a_text_too_long_for_a_quantity_costs_nothing_and_is_none(text: str) -> None:
    """Its writer chooses an annotation, and every round compares it."""
    began = time.process_time()
    assert drifted({"limits": {"cpu": "1"}}, {"limits": {"cpu": text}})
    assert time.process_time() - began < 0.5  # it was minutes


@pytest.mark.parametrize(("written", "stored"), [("500m", "501m"), ("1Gi", "1G"), ("a", "b"), (True, "1"), ("1", None)])
def test_another_quantity_is_drift(written: object, stored: object) -> None:
    assert drifted({"limits": {"cpu": written}}, {"limits": {"cpu": stored}})


def test_what_belongs_to_an_earlier_resource_of_the_same_name_is_distinguished_but_is_no_new_revision() -> None:
    spec = make_spec()
    one, other = (Owner(namespace="shop", name="report", uid=uid) for uid in "12")
    first, second = (render(owner, spec).deployment(grace=75) for owner in (one, other))
    assert first["metadata"]["annotations"]["flowworker.dev/owner-uid"] == "1"
    assert second["spec"]["template"]["metadata"]["annotations"]["flowworker.dev/owner-uid"] == "2"
    assert revision_of(spec) == revision_of(spec)
    assert first["metadata"]["name"] == second["metadata"]["name"]


def test_certificates_of_the_database_are_a_file_in_every_pod_that_connects() -> None:
    database = {"secretRef": {"name": "a"}, "ownerSecretRef": {"name": "o"}, "caRef": {"name": "authority"}}
    spec = make_spec(database=database)
    compiler = render(OWNER, spec).compiler_pod()["spec"]
    for found in (pod(database=database), compiler):
        (container,) = found["containers"]
        named = next(entry["value"] for entry in container["env"] if entry["name"] == "PGSSLROOTCERT")
        volume = next(one for one in found["volumes"] if one.get("secret", {}).get("secretName") == "authority")
        mount = next(one for one in container["volumeMounts"] if one["name"] == volume["name"])
        assert f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}" == named
        assert volume["secret"]["items"][0]["key"] == "ca.crt"
    assert not any(entry["name"] == "PGSSLROOTCERT" for entry in worker()["env"])


@pytest.mark.parametrize(("security", "mode"), [(None, None), ({"fsGroup": 1000}, 0o440)])
def test_the_certificate_of_a_client_and_its_key_are_files_in_every_pod_that_connects(
    security: dict[str, int] | None, mode: int | None
) -> None:
    database = {"secretRef": {"name": "a"}, "ownerSecretRef": {"name": "o"}, "clientCertificateRef": {"name": "tls"}}
    template: dict[str, Any] = {"spec": {} if security is None else {"securityContext": security}}
    spec = make_spec(database=database, template=template)
    for found in (pod(database=database, template=template), render(OWNER, spec).compiler_pod()["spec"]):
        (container,) = found["containers"]
        named = {entry["name"]: entry.get("value") for entry in container["env"]}
        volume = next(one for one in found["volumes"] if one.get("secret", {}).get("secretName") == "tls")
        mount = next(one for one in container["volumeMounts"] if one["name"] == volume["name"])
        files = {item["key"]: f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
        assert files == {"tls.crt": named["PGSSLCERT"], "tls.key": named["PGSSLKEY"]}
        assert volume["secret"]["items"][1].get("mode") == mode
    assert not any(entry["name"].startswith("PGSSL") for entry in worker()["env"])
