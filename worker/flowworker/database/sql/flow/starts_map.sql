-- Whether a task of `step` is one of a map, and the core's start_tasks has a body that flowworker.start_map_tasks is known
-- to equal there: those of core 0.8.1, 0.12, 0.13 and 0.14. It is looked at in each claim that finds such tasks, because the core may be
-- migrated beneath a worker.
step.is_map AND coalesce((
    SELECT md5(p.prosrc) IN (
        'b37f5e84517b76791021290169fcdd64',
        'f7688878a5e786648d8206f97809ca49',
        'eb4fb78d48fdda1a3d0b0ba7b03fe973',
        'e618145b665e7eb2629c9b9afb79edf2'
    )
    FROM pg_proc AS p
    WHERE p.oid = to_regprocedure('pgflow.start_tasks(text, bigint[], uuid)')
), false)
