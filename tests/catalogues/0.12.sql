-- The run's input travels beside the step's input instead of inside it.
ALTER TYPE pgflow.step_task_record ADD ATTRIBUTE flow_input jsonb;

DROP FUNCTION pgflow.ensure_flow_compiled(text, jsonb);
CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb, allow_data_loss boolean DEFAULT false)
RETURNS jsonb LANGUAGE sql AS $$
    SELECT pgflow.compile_shape(ensure_flow_compiled.flow_slug, shape, pgflow.is_local() OR allow_data_loss)
$$;

CREATE FUNCTION pgflow.output_of_tasks(run_id uuid, step_slug text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE
        WHEN step.step_type = 'map' THEN coalesce(
            jsonb_agg(task.output ORDER BY task.task_index) FILTER (WHERE task.task_index IS NOT NULL), '[]')
        ELSE (array_agg(task.output))[1]
    END
    FROM pgflow.step_states AS state
    JOIN pgflow.steps AS step USING (flow_slug, step_slug)
    LEFT JOIN pgflow.step_tasks AS task
        ON task.run_id = state.run_id AND task.step_slug = state.step_slug AND task.status = 'completed'
    WHERE state.run_id = output_of_tasks.run_id AND state.step_slug = output_of_tasks.step_slug
    GROUP BY step.step_type
$$;

CREATE FUNCTION pgflow.output_of(run_id uuid, step_slug text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pgflow.output_of_tasks(output_of.run_id, output_of.step_slug)
$$;

CREATE FUNCTION pgflow.input_of(task pgflow.step_tasks) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE
        WHEN step.step_type = 'map' AND step.deps_count = 0 THEN run.input -> task.task_index
        WHEN step.step_type = 'map' THEN (SELECT value FROM jsonb_each(dependencies.outputs)) -> task.task_index
        ELSE coalesce(dependencies.outputs, '{}')
    END
    FROM pgflow.runs AS run
    JOIN pgflow.steps AS step ON step.flow_slug = task.flow_slug AND step.step_slug = task.step_slug
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(dep.dep_slug, pgflow.output_of(task.run_id, dep.dep_slug)) AS outputs
        FROM pgflow.deps AS dep
        JOIN pgflow.step_states AS state
            ON state.run_id = task.run_id AND state.step_slug = dep.dep_slug AND state.status = 'completed'
        WHERE dep.flow_slug = task.flow_slug AND dep.step_slug = task.step_slug
    ) AS dependencies
    WHERE run.run_id = task.run_id
$$;

CREATE FUNCTION pgflow.flow_input_of(task pgflow.step_tasks) RETURNS jsonb LANGUAGE sql AS $$
    SELECT run.input FROM pgflow.runs AS run WHERE run.run_id = task.run_id
$$;

CREATE FUNCTION pgflow.claim_messages(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_tasks LANGUAGE sql AS $$
    UPDATE pgflow.step_tasks AS task
    SET status = 'started', attempts_count = attempts_count + 1, started_at = now(), last_worker_id = worker_id
    FROM pgflow.runs AS run
    WHERE task.flow_slug = claim_messages.flow_slug AND task.message_id = ANY (msg_ids) AND task.status = 'queued'
      AND run.run_id = task.run_id AND run.status <> 'failed'
    RETURNING task.*
$$;

CREATE OR REPLACE FUNCTION pgflow.start_tasks(flow_slug text, msg_ids bigint[], worker_id uuid)
RETURNS SETOF pgflow.step_task_record LANGUAGE sql AS $$
    SELECT task.flow_slug, task.run_id, task.step_slug, pgflow.input_of(task), task.message_id, task.task_index,
           pgflow.flow_input_of(task)
    FROM pgflow.claim_messages(start_tasks.flow_slug, msg_ids, worker_id) AS task
$$;
