-- Workers that take a flow's queue for a plain one, and so archive the messages of its tasks.
SELECT worker.worker_name, worker.slug
FROM flowworker.workers AS worker
WHERE
    worker.kind = 'queue'
    AND worker.state NOT IN ('stopped', 'lost')
    AND EXISTS (SELECT FROM pgflow.flows AS flow WHERE lower(flow.flow_slug) = lower(worker.slug))
ORDER BY worker.worker_name
LIMIT 20
