"""The pod template fragment of the spec.

The whole PodSpec is not embedded: it would make the CRD fifty times as long and tie it to one version of Kubernetes.
What we read is typed; below `template.spec` every other field of a pod is kept as it is and is checked by the API
server when the Deployment is written.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from flowworker_operator.api.model import Model

OPEN: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
WHOLE: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""A list that one manager has as a whole."""
MOST_CONTAINERS = 16
MOST_TEXTS = 1024
"""Variables, arguments or parts of a command of a container."""

LARGEST_TEMPLATE = 262_144
"""Bytes of the whole fragment as JSON. At admission the texts are counted that usually make a template large; what the
schema keeps as it is, only the operator can measure."""

Text = Annotated[str, Field(max_length=LARGEST_TEMPLATE)]


class Open(Model):
    """A part of a pod that keeps the fields we do not type."""

    model_config = ConfigDict(extra="allow", json_schema_extra=OPEN)


class Variable(Open):
    """Any field of an environment variable."""

    name: Annotated[Text, Field(min_length=1, description="Name of the variable.")]
    value: Annotated[Text | None, Field(description="Its value.")] = None


class Container(Open):
    """Any field of a container."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            description="Name of the container; worker is the one the operator completes.",
        ),
    ]
    command: Annotated[
        tuple[Text, ...] | None,
        Field(max_length=MOST_TEXTS, description="In place of the image's entry point.", json_schema_extra=WHOLE),
    ] = None
    args: Annotated[
        tuple[Text, ...] | None,
        Field(
            max_length=MOST_TEXTS,
            description="Arguments of the command; those of worker are the operator's.",
            json_schema_extra=WHOLE,
        ),
    ] = None
    env: Annotated[
        tuple[Variable, ...] | None,
        Field(
            max_length=MOST_TEXTS,
            description="Environment variables; the operator adds its own to worker's.",
            json_schema_extra=WHOLE,
        ),
    ] = None


class PodFragment(Open):
    """Any field of a pod's spec."""

    containers: Annotated[
        tuple[Container, ...],
        Field(
            max_length=MOST_CONTAINERS,
            description="Containers of the pod. The one named worker is completed; others stay as they are.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    termination_grace_period_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=2_592_000,
            description="Seconds a pod may take to stop. Unset: the drain timeout and 15 seconds on top. Less than the "
            "flow's timeout is reported in the condition DrainsInTime.",
        ),
    ] = None


class TemplateMetadata(Model):
    """Labels and annotations of the pods."""

    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]] | None,
        Field(max_length=64, description="Labels of the pods; those of the operator win."),
    ] = None
    annotations: Annotated[
        dict[str, Text] | None,
        Field(max_length=64, description="Annotations of the pods; those of the operator win."),
    ] = None


class PodTemplate(Model):
    """Fragment of a pod template."""

    metadata: Annotated[TemplateMetadata, Field(description="Labels and annotations of the pods.")] = TemplateMetadata()
    spec: Annotated[
        PodFragment,
        Field(description="Fragment of the pods' spec: any field of a Kubernetes PodSpec, merged with the operator's."),
    ] = PodFragment()

    def pod_spec(self) -> dict[str, Any]:
        """The fragment as it was written, without defaults; a new dictionary at each call."""
        return self.spec.model_dump(by_alias=True, exclude_unset=True)
