-- Workers of other processes that have not ended, in our own network namespace: only there can the kernel say whether
-- their process is still there. Those of our pod ($3) that serve what we serve, and those that bear an id of ours.
SELECT w.worker_id, w.boot_id
FROM unnest($4::text[], $5::text[]) AS served(kind, slug)
JOIN flowworker.workers AS w ON w.kind = served.kind AND w.slug = served.slug
WHERE w.state NOT IN ('stopped', 'lost')
    AND w.network_namespace = $1::text
    AND w.boot_id <> $2::uuid
    AND w.pod_uid = $3::text
UNION
SELECT w.worker_id, w.boot_id
FROM flowworker.workers AS w
WHERE w.state NOT IN ('stopped', 'lost')
    AND w.network_namespace = $1::text
    AND w.boot_id <> $2::uuid
    AND w.worker_id = ANY($6::uuid[])
