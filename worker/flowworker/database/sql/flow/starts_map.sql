-- Whether a task of `step` is one of a map, and the core's start_tasks has a body that flowworker.start_map_tasks is known
-- to equal there: that of core 0.8.1. It is looked at in each claim that finds such tasks, because the core may be
-- migrated beneath a worker.
step.is_map AND coalesce((
    SELECT md5(p.prosrc) IN ('b37f5e84517b76791021290169fcdd64')
    FROM pg_proc AS p
    WHERE p.oid = to_regprocedure('pgflow.start_tasks(text, bigint[], uuid)')
), false)
