-- Our own schema: what workers say about themselves, which of them are asked to drain, what people have asked for, and
-- what was installed.
CREATE SCHEMA IF NOT EXISTS flowworker;

CREATE TABLE IF NOT EXISTS flowworker.workers (
    worker_id   uuid PRIMARY KEY,
    boot_id     uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('flow', 'queue')),
    slug        text NOT NULL,
    worker_name text NOT NULL,
    namespace   text,
    flowworker  text,
    pod_name    text,
    pod_uid     text,
    revision    text,
    version     text NOT NULL,
    state       text NOT NULL CHECK (state IN ('starting', 'running', 'draining', 'drained', 'stopping', 'stopped', 'lost')),
    in_flight   integer NOT NULL DEFAULT 0,
    slots       integer NOT NULL,
    completed   bigint NOT NULL DEFAULT 0,
    failed      bigint NOT NULL DEFAULT 0,
    last_error  text CHECK (length(last_error) <= 512),
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flowworker.workers IS 'One row per incarnation of a worker, written by its heartbeat; pruned a day after its end.';
COMMENT ON COLUMN flowworker.workers.boot_id IS 'Shared by all workers of one process; another one in a container that was restarted.';

ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS longest_timeout integer;
COMMENT ON COLUMN flowworker.workers.longest_timeout IS 'Seconds that a task may take, where no table of pgflow has it.';

-- What a worker says about its health, beyond that it lives.
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS begun_at timestamptz;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS unwritten_for double precision;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS unclaimed_for double precision;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS doubts integer;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS network_namespace text;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS ended_at timestamptz;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS option_changes jsonb;
COMMENT ON COLUMN flowworker.workers.begun_at IS 'All claims up to this time of the database have been answered and their handlers launched.';
COMMENT ON COLUMN flowworker.workers.unwritten_for IS 'Age in seconds of the oldest result that is not written yet; NULL when all are.';
COMMENT ON COLUMN flowworker.workers.unclaimed_for IS 'Seconds for which it has wanted to claim and no claim was answered; NULL while it wants none.';
COMMENT ON COLUMN flowworker.workers.doubts IS 'Claims and writes whose outcome is not known.';
COMMENT ON COLUMN flowworker.workers.network_namespace IS 'Kernel and network namespace in which the process has bound the socket that shows that it runs; NULL when it has not.';
COMMENT ON COLUMN flowworker.workers.ended_at IS 'When the worker stopped or was marked lost; NULL while it lives.';
COMMENT ON COLUMN flowworker.workers.option_changes IS 'Options of the flow that the database had otherwise than the code when the worker started; NULL for a queue.';

-- Workers, peers, the operator and people end workers, each by changing the state: this notes when.
CREATE OR REPLACE FUNCTION flowworker.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ended_at := CASE WHEN NEW.state IN ('stopped', 'lost') THEN clock_timestamp() END;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER note_end BEFORE UPDATE OF state ON flowworker.workers
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION flowworker.note_end();

-- Columns that a heartbeat never changes, so that it stays cheap; and room on each page for its next version.
ALTER TABLE flowworker.workers SET (fillfactor = 50);
DROP INDEX IF EXISTS flowworker.workers_alive;
CREATE INDEX IF NOT EXISTS workers_living ON flowworker.workers (kind, slug, worker_id) WHERE state NOT IN ('stopped', 'lost');
CREATE INDEX IF NOT EXISTS workers_ended ON flowworker.workers (kind, slug, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS workers_served ON flowworker.workers (kind, slug, started_at);
CREATE INDEX IF NOT EXISTS workers_owned ON flowworker.workers (namespace, flowworker, started_at);

CREATE TABLE IF NOT EXISTS flowworker.drains (
    target     text PRIMARY KEY,
    until      timestamptz NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flowworker.drains IS 'Drain requests: target is a pod uid or a worker id; in force until the lease lapses.';

-- Several may ask for the drain of one worker, and each takes back only its own request.
ALTER TABLE flowworker.drains ADD COLUMN IF NOT EXISTS created_by text NOT NULL DEFAULT 'user';
ALTER TABLE flowworker.drains DROP CONSTRAINT IF EXISTS drains_pkey;
ALTER TABLE flowworker.drains ADD PRIMARY KEY (target, created_by);
CREATE INDEX IF NOT EXISTS drains_asked ON flowworker.drains (created_by);
COMMENT ON COLUMN flowworker.drains.created_by IS '`user`, or `operator/` and the namespace and name of a FlowWorker.';

-- The record of what was asked for. Roles that act may add to it, and neither change it nor delete from it.
CREATE TABLE IF NOT EXISTS flowworker.requests (
    request_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    requested_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor         text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    database_role text NOT NULL DEFAULT session_user,
    action        text NOT NULL,
    kind          text NOT NULL,
    slug          text NOT NULL,
    target        text,
    reason        text CHECK (length(reason) <= 1000),
    outcome       text NOT NULL,
    details       jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE flowworker.requests IS 'What people and programs asked for, one row per request: who, what, when, and what came of it.';
COMMENT ON COLUMN flowworker.requests.actor IS 'Who asked, by their own account; database_role is what the database knows.';
COMMENT ON COLUMN flowworker.requests.slug IS 'The flow or queue; `*` where runs of any flow were asked for.';
COMMENT ON COLUMN flowworker.requests.target IS 'The run id, or the id of the job within the queue that slug names; of many runs `*`, or NULL where they were retried.';
COMMENT ON COLUMN flowworker.requests.outcome IS '`cancelled`, or the state in which the run or job had already ended; of many runs `begun`, and in another row `done`.';
CREATE INDEX IF NOT EXISTS requests_about ON flowworker.requests (target, kind, slug, request_id);

-- Who may add to the record writes neither another role nor another time into it.
CREATE OR REPLACE FUNCTION flowworker.note_request() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    NEW.database_role := session_user;
    NEW.requested_at := clock_timestamp();
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER note_request BEFORE INSERT ON flowworker.requests
    FOR EACH ROW EXECUTE FUNCTION flowworker.note_request();

-- Many runs are asked for in one row, which says which ones, and one more when all of them are through. Retrying takes
-- fewer rights than cancelling: roles that may only retry have no right to write a target, so that nothing they add is
-- a cancellation.
ALTER TABLE flowworker.requests
    ALTER COLUMN target DROP NOT NULL,
    DROP CONSTRAINT IF EXISTS requests_action_check,
    DROP CONSTRAINT IF EXISTS requests_kind_check,
    DROP CONSTRAINT IF EXISTS requests_target_check,
    ADD CONSTRAINT requests_action_check CHECK (action IN ('cancel', 'retry')),
    ADD CONSTRAINT requests_kind_check CHECK (kind IN ('run', 'job', 'runs')),
    ADD CONSTRAINT requests_target_check CHECK (target IS NOT NULL OR (action = 'retry' AND kind = 'runs'));
CREATE INDEX IF NOT EXISTS requests_for_many ON flowworker.requests (request_id) WHERE kind = 'runs';

CREATE TABLE IF NOT EXISTS flowworker.run_links (
    request_id bigint NOT NULL,
    new_run_id uuid NOT NULL,
    run_id     uuid NOT NULL,
    linked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (request_id, new_run_id)
);
COMMENT ON TABLE flowworker.run_links IS 'Which run was started again as which, when many were retried; flowworker.requests has who asked and why.';
CREATE INDEX IF NOT EXISTS run_links_to ON flowworker.run_links (new_run_id);
CREATE INDEX IF NOT EXISTS run_links_from ON flowworker.run_links (run_id);

CREATE TABLE IF NOT EXISTS flowworker.ledger (
    component    text NOT NULL,
    name         text NOT NULL,
    checksum     text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (component, name)
);
COMMENT ON TABLE flowworker.ledger IS 'What `flowworker db install` has applied.';

-- The array that a map runs over: the run's input, or what the step before returned. Core 0.13 and later keep that of
-- every step in one place; before, that of a map is NULL, because it is kept by task.
CREATE OR REPLACE FUNCTION flowworker.array_of_map(run uuid, source text) RETURNS jsonb
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF source IS NULL THEN
        RETURN (SELECT r.input FROM pgflow.runs AS r WHERE r.run_id = run);
    ELSIF EXISTS (
        SELECT FROM pg_catalog.pg_attribute
        WHERE attrelid = 'pgflow.step_states'::regclass AND attname = 'output' AND NOT attisdropped
    ) THEN
        RETURN (
            SELECT s.output FROM pgflow.step_states AS s
            WHERE s.run_id = run AND s.step_slug = source AND s.status = 'completed'
        );
    END IF;
    RETURN (
        SELECT t.output
        FROM pgflow.step_tasks AS t
        JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug AND s.step_type <> 'map'
        WHERE t.run_id = run AND t.step_slug = source AND t.task_index = 0 AND t.status = 'completed'
    );
END
$$;

-- What pgflow.start_tasks does for tasks of map steps, without what makes it slow: that reads the whole array again for
-- each task. Only used where the body of that function is one that we know. In PL/pgSQL, which looks at pgflow's tables
-- when it runs: they may be installed later.
CREATE OR REPLACE FUNCTION flowworker.start_map_tasks(flow text, messages bigint[], worker uuid)
RETURNS TABLE (msg_id bigint, run_id uuid, step_slug text, task_index integer, input jsonb)
LANGUAGE plpgsql SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH started AS MATERIALIZED (
        UPDATE pgflow.step_tasks AS t
        SET attempts_count = t.attempts_count + 1, status = 'started', started_at = now(), last_worker_id = worker
        FROM pgflow.runs AS r, pgflow.step_states AS s
        WHERE t.flow_slug = flow AND t.message_id = ANY (messages) AND t.status = 'queued'
            AND r.run_id = t.run_id AND r.status = 'started'
            AND s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'started'
        RETURNING t.message_id, t.run_id, t.step_slug, t.task_index
    ),
    step AS MATERIALIZED (
        SELECT
            run_id, step_slug,
            array_agg(message_id ORDER BY message_id) AS messages,
            array_agg(task_index ORDER BY message_id) AS task_indexes
        FROM started
        GROUP BY run_id, step_slug
    ),
    source AS (
        -- `#> '{}'` changes nothing but unpacks the array, once for all tasks; OFFSET 0 keeps it from being repeated.
        SELECT step.*, dep.dep_slug, flowworker.array_of_map(step.run_id, dep.dep_slug) #> '{}' AS items
        FROM step
        LEFT JOIN pgflow.deps AS dep ON dep.flow_slug = flow AND dep.step_slug = step.step_slug
        OFFSET 0
    )
    SELECT
        task.message_id, source.run_id, source.step_slug, task.task_index,
        CASE
            WHEN source.items IS NULL THEN (
                SELECT coalesce(t.output, 'null') FROM pgflow.step_tasks AS t
                WHERE t.run_id = source.run_id AND t.step_slug = source.dep_slug AND t.task_index = task.task_index
                    AND t.status = 'completed'
            )
            ELSE source.items -> task.task_index
        END
    FROM source
    CROSS JOIN LATERAL unnest(source.messages, source.task_indexes) AS task(message_id, task_index);
END
$$;

-- What pgflow.complete_task does, one after the other, for several started tasks of one map: all but the last one end at
-- once, and the core's function ends the last one with all that follows from it. What comes before the end of a step
-- changes nothing but the tasks, their messages and how many are left. The caller has locked the run and the tasks.
-- `number` counts the arguments from 1.
CREATE OR REPLACE FUNCTION flowworker.complete_map_tasks(run uuid, step text, task_indexes integer[], outputs jsonb[])
RETURNS TABLE (number integer, status text, error_message text)
LANGUAGE plpgsql SET search_path = '' AS $$
#variable_conflict use_column
DECLARE
    last CONSTANT integer := cardinality(task_indexes);
    flow text;
    messages bigint[];
BEGIN
    IF NOT EXISTS (
        SELECT FROM pgflow.runs AS r JOIN pgflow.step_states AS s ON s.run_id = r.run_id
        WHERE r.run_id = run AND r.status <> 'failed' AND s.step_slug = step AND s.status = 'started'
    ) THEN
        RETURN QUERY
        SELECT asked.number::integer, t.status, t.error_message
        FROM unnest(task_indexes, outputs) WITH ORDINALITY AS asked(task_index, output, number)
        CROSS JOIN LATERAL pgflow.complete_task(run, step, asked.task_index, asked.output) AS t;
        RETURN;
    END IF;
    WITH done AS (
        UPDATE pgflow.step_tasks AS t
        SET status = 'completed', completed_at = now(), output = result.output
        FROM unnest(task_indexes[:last - 1], outputs[:last - 1]) AS result(task_index, output)
        WHERE t.run_id = run AND t.step_slug = step AND t.task_index = result.task_index AND t.status = 'started'
        RETURNING t.flow_slug, t.message_id
    ),
    counted AS (
        UPDATE pgflow.step_states AS s
        SET remaining_tasks = s.remaining_tasks - (SELECT count(*) FROM done)
        WHERE s.run_id = run AND s.step_slug = step
    )
    SELECT min(done.flow_slug), array_agg(done.message_id) INTO flow, messages FROM done;
    PERFORM pgmq.archive(flow, messages);
    RETURN QUERY
    SELECT asked.number::integer, t.status, t.error_message
    FROM unnest(task_indexes[:last - 1]) WITH ORDINALITY AS asked(task_index, number)
    JOIN pgflow.step_tasks AS t ON t.run_id = run AND t.step_slug = step AND t.task_index = asked.task_index;
    RETURN QUERY
    SELECT last, t.status, t.error_message
    FROM pgflow.complete_task(run, step, task_indexes[last], outputs[last]) AS t;
END
$$;

-- Cancels a run: its open tasks end, their messages are archived, and the run fails, all in the caller's transaction. No
-- row for a run that does not exist; for one that was cancelled before, what was written then, so that a call whose reply
-- was lost can be repeated: but only where it has ended, because a run that was deleted may come again under its id, which
-- is up to those who start it. The core's own fail_task is no way to it: it fails one task, leaves others open on cores up to
-- 0.14, and skips the step instead where the flow says so.
-- The locks are taken in the order of all our writes, first the run, then messages, then tasks. A claim under way holds
-- messages: to archive them waits for it, and what comes after sees what it has started. It does not wait long for one
-- that hangs, because all results of the run wait meanwhile.
-- The tasks lose their worker, whose late result must not be taken for the failure that is written here.
-- `part_of` is the request for many runs that this one belongs to.
DROP FUNCTION IF EXISTS flowworker.cancel_run(uuid, text, text);
CREATE OR REPLACE FUNCTION flowworker.cancel_run(run uuid, asked_by text, why text, part_of bigint DEFAULT NULL)
RETURNS TABLE (
    flow_slug text, outcome text, actor text, reason text, requested_at timestamptz, queued integer, started integer,
    is_new boolean
)
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    flow text;
    run_status text;
    final_status text;
    explanation CONSTANT text := 'cancelled by ' || asked_by || coalesce(': ' || why, '');
    ended_at timestamptz;
    queue text;
    messages bigint[];
    counts jsonb := '{}';
    step text;
    request bigint;
BEGIN
    SELECT r.flow_slug, r.status INTO flow, run_status FROM pgflow.runs AS r WHERE r.run_id = run FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT max(q.request_id) INTO request
    FROM flowworker.requests AS q
    WHERE q.target = run::text AND q.kind = 'run' AND q.outcome = 'cancelled';
    IF run_status <> 'started' AND request IS NOT NULL THEN
        RETURN QUERY
        SELECT
            q.slug, q.outcome, q.actor, q.reason, q.requested_at,
            (q.details ->> 'queued')::integer, (q.details ->> 'started')::integer, false
        FROM flowworker.requests AS q
        WHERE q.request_id = request;
        RETURN;
    END IF;

    IF run_status = 'started' THEN
        FOR queue, messages IN
            SELECT coalesce(to_jsonb(t) ->> 'queue_name', t.flow_slug), array_agg(t.message_id ORDER BY t.message_id)
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = run AND t.status IN ('queued', 'started') AND t.message_id IS NOT NULL
            GROUP BY 1
            ORDER BY 1
        LOOP
            PERFORM pgmq.archive(queue, messages);
        END LOOP;

        ended_at := clock_timestamp();
        final_status := CASE WHEN EXISTS (
            SELECT FROM pg_catalog.pg_constraint AS c
            WHERE c.conrelid = 'pgflow.step_tasks'::regclass AND c.contype = 'c'
                AND pg_catalog.pg_get_constraintdef(c.oid) LIKE '%''cancelled''%'
        ) THEN 'cancelled' ELSE 'failed' END;
        WITH open AS MATERIALIZED (
            SELECT t.step_slug, t.task_index, t.status
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = run AND t.status IN ('queued', 'started')
        ),
        ended AS (
            UPDATE pgflow.step_tasks AS t
            SET status = final_status,
                failed_at = CASE final_status WHEN 'failed' THEN greatest(ended_at, t.started_at) END,
                error_message = explanation,
                last_worker_id = NULL
            FROM open
            WHERE t.run_id = run AND t.step_slug = open.step_slug AND t.task_index = open.task_index
            RETURNING open.status
        )
        SELECT jsonb_build_object(
            'queued', count(*) FILTER (WHERE ended.status = 'queued'),
            'started', count(*) FILTER (WHERE ended.status = 'started')
        ) INTO counts FROM ended;

        FOR step IN
            UPDATE pgflow.step_states AS s
            SET status = 'failed', failed_at = greatest(ended_at, s.started_at), error_message = explanation
            WHERE s.run_id = run AND s.status = 'started'
            RETURNING s.step_slug
        LOOP
            PERFORM realtime.send(
                jsonb_build_object(
                    'event_type', 'step:failed', 'run_id', run, 'step_slug', step, 'status', 'failed',
                    'error_message', explanation, 'failed_at', ended_at
                ),
                'step:' || step || ':failed', 'pgflow:run:' || run, false
            );
        END LOOP;
        UPDATE pgflow.runs AS r SET status = 'failed', failed_at = greatest(ended_at, r.started_at) WHERE r.run_id = run;
        PERFORM realtime.send(
            jsonb_build_object(
                'event_type', 'run:failed', 'run_id', run, 'flow_slug', flow, 'status', 'failed',
                'error_message', explanation, 'failed_at', ended_at
            ),
            'run:failed', 'pgflow:run:' || run, false
        );
        run_status := 'cancelled';
    END IF;

    RETURN QUERY
    INSERT INTO flowworker.requests AS q (actor, action, kind, slug, target, reason, outcome, details)
    VALUES (
        asked_by, 'cancel', 'run', flow, run::text, why, run_status,
        counts || CASE WHEN part_of IS NULL THEN '{}' ELSE jsonb_build_object('request', part_of) END
    )
    RETURNING
        q.slug, q.outcome, q.actor, q.reason, q.requested_at,
        coalesce((q.details ->> 'queued')::integer, 0), coalesce((q.details ->> 'started')::integer, 0), true;
END
$$;

-- Cancels a job, waiting or running: it moves to the archive, where its headers say so. No row for a job that does not
-- exist; for one that was cancelled before, what was written then. A worker that runs it finds at its next heartbeat that
-- the lease is lost, and its result finds no message. A task of a flow is no job: without its message its run would wait for
-- ever.
CREATE OR REPLACE FUNCTION flowworker.cancel_job(queue text, job bigint, asked_by text, why text)
RETURNS TABLE (outcome text, actor text, reason text, requested_at timestamptz, was_running boolean, is_new boolean)
LANGUAGE plpgsql SET search_path = '' SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    -- As pgmq names its tables: by the database's rules, whatever those of the arguments are.
    name CONSTANT text COLLATE "default" := lower(queue COLLATE "default");
    lease_end timestamptz;
    reads integer;
    given jsonb;
    counts jsonb := '{}';
    failures integer;
    is_running boolean := false;
    is_waiting boolean;
    is_archived boolean;
    ending text;
    request bigint;
    flow text;
BEGIN
    IF to_regclass('pgflow.steps') IS NOT NULL THEN
        SELECT f.flow_slug INTO flow
        FROM pgflow.flows AS f
        WHERE lower(f.flow_slug) = name OR EXISTS (
            SELECT FROM pgflow.steps AS s WHERE s.flow_slug = f.flow_slug AND to_jsonb(s) ->> 'queue_name' = name
        )
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'its messages are the tasks of flow "%": cancel the run instead', flow;
        END IF;
    END IF;

    EXECUTE format(
        'SELECT true, q.vt, q.read_ct, q.headers FROM pgmq.%I AS q WHERE q.msg_id = $1 FOR UPDATE',
        pgmq.format_table_name(name, 'q')
    ) INTO is_waiting, lease_end, reads, given USING job;
    IF is_waiting THEN
        failures := coalesce(
            jsonb_path_query_first(given, '$.flowworker.failures ? (@ > 0 && @ < 1000000)')::integer, 0);
        is_running := lease_end > clock_timestamp() AND reads > failures + coalesce(
            jsonb_path_query_first(given, '$.flowworker.releases ? (@ > 0 && @ < 1000000)')::integer, 0);
        EXECUTE format('UPDATE pgmq.%I AS q SET headers = $2 WHERE q.msg_id = $1', pgmq.format_table_name(name, 'q'))
        USING job, CASE jsonb_typeof(given) WHEN 'object' THEN given ELSE '{}' END || jsonb_build_object(
            'flowworker',
            (CASE jsonb_typeof(given -> 'flowworker') WHEN 'object' THEN given -> 'flowworker' ELSE '{}' END
                - ARRAY['holder', 'claimed_at', 'stacktrace'])
            || jsonb_build_object(
                'status', 'cancelled',
                'error', 'cancelled by ' || asked_by || coalesce(': ' || why, ''),
                'attempt', failures + is_running::integer
            )
        );
        PERFORM pgmq.archive(name, job);
        counts := jsonb_build_object('was_running', is_running);
        ending := 'cancelled';
    ELSE
        EXECUTE format(
            $sql$
                SELECT true, CASE
                    WHEN q.headers -> 'flowworker' ->> 'status' IN ('done', 'failed', 'cancelled')
                    THEN q.headers -> 'flowworker' ->> 'status' ELSE 'archived'
                END
                FROM pgmq.%I AS q
                WHERE q.msg_id = $1
            $sql$,
            pgmq.format_table_name(name, 'a')
        ) INTO is_archived, ending USING job;
        IF is_archived IS NULL THEN
            RETURN;
        END IF;
        SELECT max(q.request_id) INTO request
        FROM flowworker.requests AS q
        WHERE q.target = job::text AND q.kind = 'job' AND q.slug = name AND q.outcome = 'cancelled';
        IF ending = 'cancelled' AND request IS NOT NULL THEN
            RETURN QUERY
            SELECT q.outcome, q.actor, q.reason, q.requested_at, (q.details ->> 'was_running')::boolean, false
            FROM flowworker.requests AS q
            WHERE q.request_id = request;
            RETURN;
        END IF;
    END IF;

    RETURN QUERY
    INSERT INTO flowworker.requests AS q (actor, action, kind, slug, target, reason, outcome, details)
    VALUES (asked_by, 'cancel', 'job', name, job::text, why, ending, counts)
    RETURNING q.outcome, q.actor, q.reason, q.requested_at, is_running, is_waiting IS TRUE;
END
$$;

-- Notes that many runs were asked for, or that all of them are through. It names the target only where it must: see the
-- constraint on it.
CREATE OR REPLACE FUNCTION flowworker.note_request_for_runs(
    action text, slug text, asked_by text, why text, outcome text, details jsonb
)
RETURNS bigint LANGUAGE plpgsql SET search_path = '' AS $$
#variable_conflict use_variable
DECLARE
    noted bigint;
BEGIN
    IF action = 'retry' THEN
        INSERT INTO flowworker.requests (actor, action, kind, slug, reason, outcome, details)
        VALUES (asked_by, action, 'runs', slug, why, outcome, details)
        RETURNING request_id INTO noted;
    ELSE
        INSERT INTO flowworker.requests (actor, action, kind, slug, target, reason, outcome, details)
        VALUES (asked_by, action, 'runs', slug, '*', why, outcome, details)
        RETURNING request_id INTO noted;
    END IF;
    RETURN noted;
END
$$;

-- The id of the run that does a run again, always the same one: the low 60 bits, which hold neither version nor variant,
-- moved by a fixed distance. As `retry_id` in database/runs.py has it.
CREATE OR REPLACE FUNCTION flowworker.retry_id(run uuid) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (
        left(replace(run::text, '-', ''), 17)
        || lpad(
            to_hex(
                (('x' || right(replace(run::text, '-', ''), 15))::bit(60)::bigint + 951486860854490831)
                % 1152921504606846976
            ),
            15, '0'
        )
    )::uuid
$$;

-- Starts failed runs again, and notes which came of which. Those that have been started again before stay as they are, so
-- that a call may be repeated. All of them are started or none.
CREATE OR REPLACE FUNCTION flowworker.retry_runs(runs uuid[], part_of bigint)
RETURNS TABLE (flow_slug text, new_run_id uuid)
LANGUAGE plpgsql SET search_path = '' AS $$
#variable_conflict use_column
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT r.run_id, r.flow_slug, r.input, flowworker.retry_id(r.run_id) AS new_run_id
        FROM unnest(runs) WITH ORDINALITY AS wanted(run_id, number)
        JOIN pgflow.runs AS r ON r.run_id = wanted.run_id AND r.status = 'failed'
        ORDER BY wanted.number
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pgflow.runs AS r WHERE r.run_id = one.new_run_id);
        PERFORM pgflow.start_flow(flow_slug => one.flow_slug, input => one.input, run_id => one.new_run_id);
        INSERT INTO flowworker.run_links (request_id, new_run_id, run_id)
        VALUES (part_of, one.new_run_id, one.run_id)
        ON CONFLICT DO NOTHING;
        flow_slug := one.flow_slug;
        new_run_id := one.new_run_id;
        RETURN NEXT;
    END LOOP;
END
$$;
