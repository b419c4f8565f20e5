-- Every step and task names its queue, and a claim must name it too.
ALTER TABLE pgflow.flows
    ADD COLUMN queue_mode text NOT NULL DEFAULT 'flow' CHECK (queue_mode IN ('flow', 'step'));
CREATE UNIQUE INDEX idx_flows_normalized_slug ON pgflow.flows (lower(flow_slug));
ALTER TABLE pgflow.steps ADD COLUMN queue_name text;
ALTER TABLE pgflow.step_tasks ADD COLUMN queue_name text;
UPDATE pgflow.steps SET queue_name = lower(flow_slug);
UPDATE pgflow.step_tasks SET queue_name = lower(flow_slug);
ALTER TABLE pgflow.steps ALTER COLUMN queue_name SET NOT NULL;
ALTER TABLE pgflow.step_tasks ALTER COLUMN queue_name SET NOT NULL;
CREATE UNIQUE INDEX idx_step_tasks_queue_message ON pgflow.step_tasks (queue_name, message_id);

CREATE FUNCTION pgflow.name_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.queue_name := coalesce(new.queue_name, lower(new.flow_slug));
    RETURN new;
END
$$;
CREATE TRIGGER name_queue BEFORE INSERT ON pgflow.steps FOR EACH ROW EXECUTE FUNCTION pgflow.name_queue();
CREATE TRIGGER name_queue BEFORE INSERT ON pgflow.step_tasks FOR EACH ROW EXECUTE FUNCTION pgflow.name_queue();

DROP FUNCTION pgflow.ensure_flow_compiled(text, jsonb);
CREATE FUNCTION pgflow.ensure_flow_compiled(
    flow_slug text, shape jsonb, queue_mode text DEFAULT 'flow', route_map jsonb DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ensure_flow_compiled may delete the runs of a flow; nothing of FlowWorker calls it';
END
$$;

ALTER FUNCTION pgflow.start_tasks(text, bigint[], uuid) SET SCHEMA pgflow_wrapped;
CREATE FUNCTION pgflow.start_tasks(
    flow_slug text, msg_ids bigint[], worker_id uuid, queue_name text, step_slug text DEFAULT NULL
) RETURNS SETOF pgflow.step_task_record LANGUAGE plpgsql AS $$
BEGIN
    IF start_tasks.step_slug IS NOT NULL THEN
        RAISE EXCEPTION 'flow "%" has one queue for all its steps: step_slug must be left out', start_tasks.flow_slug;
    END IF;
    IF start_tasks.queue_name <> lower(start_tasks.flow_slug) THEN
        RAISE EXCEPTION 'queue "%" does not belong to flow "%"', start_tasks.queue_name, start_tasks.flow_slug;
    END IF;
    RETURN QUERY SELECT * FROM pgflow_wrapped.start_tasks(start_tasks.flow_slug, msg_ids, worker_id);
END
$$;
