-- Tasks of a failed run or a skipped step reach a final state, and a claim extends the visibility of its messages.
ALTER TABLE pgflow.step_tasks
    DROP CONSTRAINT valid_status,
    ADD CONSTRAINT valid_status
        CHECK (status IN ('queued', 'started', 'completed', 'failed', 'skipped', 'cancelled'));
ALTER TABLE pgflow.worker_functions
    ADD COLUMN start_mode text NOT NULL DEFAULT 'http' CHECK (start_mode IN ('http', 'process'));

DROP FUNCTION pgflow.track_worker_function(text);
CREATE FUNCTION pgflow.track_worker_function(function_name text, start_mode text DEFAULT 'http') RETURNS void
LANGUAGE sql AS $$
    INSERT INTO pgflow.worker_functions (function_name, start_mode)
    VALUES (track_worker_function.function_name, track_worker_function.start_mode)
    ON CONFLICT (function_name) DO UPDATE SET start_mode = excluded.start_mode
$$;

CREATE FUNCTION pgflow.end_tasks() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    archived integer;
BEGIN
    WITH ended AS (
        UPDATE pgflow.step_tasks AS task SET status = TG_ARGV[0]
        WHERE task.run_id = new.run_id AND task.status IN ('queued', 'started')
          AND (TG_ARGV[0] = 'cancelled' OR task.step_slug = to_jsonb(new) ->> 'step_slug')
        RETURNING task.flow_slug, task.message_id
    )
    SELECT count(pgmq.archive(flow_slug, message_id)) INTO archived FROM ended;
    RETURN NULL;
END
$$;
CREATE TRIGGER cancel_tasks AFTER UPDATE OF status ON pgflow.runs
    FOR EACH ROW WHEN (new.status = 'failed' AND old.status <> 'failed') EXECUTE FUNCTION pgflow.end_tasks('cancelled');
CREATE TRIGGER skip_tasks AFTER UPDATE OF status ON pgflow.step_states
    FOR EACH ROW WHEN (new.status = 'skipped' AND old.status <> 'skipped') EXECUTE FUNCTION pgflow.end_tasks('skipped');

-- The trigger ends the tasks, and archives their messages only then.
CREATE OR REPLACE FUNCTION pgflow.fail_unmet(run_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pgflow.step_states AS state
    SET status = 'failed', failed_at = now(), error_message = 'Condition not met'
    WHERE state.run_id = fail_unmet.run_id AND state.step_slug = (
        SELECT unmet.step_slug FROM pgflow.unmet_steps(fail_unmet.run_id) AS unmet WHERE unmet.when_unmet = 'fail' LIMIT 1);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE pgflow.runs AS run SET status = 'failed', failed_at = now() WHERE run.run_id = fail_unmet.run_id;
    RETURN true;
END
$$;

CREATE FUNCTION pgflow.extend_claimed(tasks pgflow.step_tasks[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    extended integer;
BEGIN
    SELECT count(*) INTO extended
    FROM (
        SELECT task.flow_slug, array_agg(task.message_id) AS messages,
               array_agg(coalesce(step.opt_timeout, flow.opt_timeout) + 2) AS seconds
        FROM unnest(tasks) AS task
        JOIN pgflow.flows AS flow ON flow.flow_slug = task.flow_slug
        JOIN pgflow.steps AS step ON step.flow_slug = task.flow_slug AND step.step_slug = task.step_slug
        GROUP BY task.flow_slug
    ) AS batch
    CROSS JOIN LATERAL pgflow.set_vt_batch(batch.flow_slug, batch.messages, batch.seconds);
    IF extended <> cardinality(tasks) THEN
        PERFORM format('updated %s of %s messages', extended, cardinality(tasks))::integer;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_task_record LANGUAGE plpgsql AS $$
DECLARE
    tasks pgflow.step_tasks[];
BEGIN
    tasks := ARRAY(SELECT task FROM pgflow.claim_messages(start_tasks.flow_slug, msg_ids, worker_id) AS task);
    PERFORM pgflow.extend_claimed(tasks);
    RETURN QUERY
        SELECT task.flow_slug, task.run_id, task.step_slug, pgflow.input_of(task), task.message_id, task.task_index,
               pgflow.flow_input_of(task)
        FROM unnest(tasks) AS task;
END
$$;
