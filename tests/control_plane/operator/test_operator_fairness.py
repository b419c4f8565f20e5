"""A namespace whose writes take long, for whatever reason, delays no other."""

import asyncio
import base64
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import web
from testkit.support.rights import rules
from testkit.support.tls import self_signed
from testkit.support.waiting import until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import DEPLOYMENTS, Object, World

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
TIMEOUT = 30
"""Seconds after which the API server goes on without the answer of the webhook: the longest that it takes."""
CROWD = 64
"""FlowWorkers whose first write is held: many times what the operator ever does at once."""
ENOUGH = 8
"""Writes that are held at the same time before the good one is woken."""


@dataclass(slots=True, kw_only=True)
class HoldingWebhook:
    """Answers no question before the test lets it."""

    let: asyncio.Event = field(default_factory=asyncio.Event)
    held: set[str] = field(default_factory=set[str])
    """Questions that the API server waits for."""

    async def review(self, request: web.Request) -> web.Response:
        """Allow, later."""
        uid = (await request.json())["request"]["uid"]
        self.held.add(uid)
        try:
            await self.let.wait()
        finally:
            self.held.remove(uid)
        answer = {"uid": uid, "allowed": True}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})


@asynccontextmanager
async def holding(world: World, namespace: str, folder: Path) -> AsyncGenerator[HoldingWebhook]:
    """Hold each write to a Deployment of a namespace by a webhook, as one does that is overloaded."""
    webhook, name = HoldingWebhook(), f"holding-{namespace}"
    certificate, key = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application = web.Application()
    application.router.add_post("/", webhook.review)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/"
    await world.request("POST", WEBHOOKS, _configuration(name, namespace, url, certificate.read_bytes()))
    try:
        yield webhook
    finally:
        webhook.let.set()
        await world.request("DELETE", f"{WEBHOOKS}/{name}")
        await runner.cleanup()


def _configuration(name: str, namespace: str, url: str, certificate: bytes) -> Object:
    return {
        "metadata": {"name": name},
        "webhooks": [
            {
                "name": "deployments.holding.example",
                "clientConfig": {"url": url, "caBundle": base64.b64encode(certificate).decode()},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "resources": ["deployments"],
                        "operations": ["CREATE", "UPDATE"],
                    }
                ],
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": TIMEOUT,
            }
        ],
    }


async def test_writes_that_are_held_in_one_namespace_do_not_delay_the_waking_in_another(
    world: World, elsewhere: str, tmp_path: Path
) -> None:
    await world.operator.stop()
    operator = world.operator
    operator.settings["NAMESPACES"] = f"{world.namespace},{elsewhere}"
    await asyncio.to_thread(world.control_plane.user, operator.user, rules(), elsewhere)
    await operator.start()
    await world.apply("report")
    await world.until_idle("report")
    theirs = replace(world, namespace=elsewhere)
    await theirs.secret()
    async with holding(world, elsewhere, tmp_path) as webhook:
        for number in range(CROWD):
            queue = f"crowd_{number}"
            await world.ground.owner.execute("SELECT pgmq.create($1)", queue)
            await theirs.apply(f"crowd-{number}", flow=None, queue=queue, handler="tests.chaos.workloads:jobs")
        await until(lambda: len(webhook.held) >= ENOUGH, "writes are held")
        held = set(webhook.held)
        await world.ground.start_run(single, Plan())
        await world.until_replicas("report", 1, patience=TIMEOUT)
        assert held <= webhook.held, "it waited for none of the writes that were held before"
        assert len(await theirs.list(DEPLOYMENTS)) < CROWD, "they have not been let through"
    await world.ground.conclude()
