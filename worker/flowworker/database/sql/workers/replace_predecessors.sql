-- A worker of the same pod with another boot id is the container's predecessor: dead at once, no need to watch it.
UPDATE flowworker.workers AS w
SET state = 'lost'
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS successor(boot_id, kind, slug, pod_uid)
WHERE w.pod_uid = successor.pod_uid
    AND w.kind = successor.kind
    AND w.slug = successor.slug
    AND w.boot_id <> successor.boot_id
    AND w.state NOT IN ('stopped', 'lost')
