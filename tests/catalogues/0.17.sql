-- Every step and task names its queue, and a claim must name it too. Workers name their software's version (0.17.1).
ALTER TABLE pgflow.workers ADD COLUMN pgflow_version text;
ALTER TABLE pgflow.flows
    ADD COLUMN queue_mode text NOT NULL DEFAULT 'flow' CHECK (queue_mode IN ('flow', 'step'));
CREATE UNIQUE INDEX idx_flows_normalized_slug ON pgflow.flows (lower(flow_slug));
CREATE UNIQUE INDEX idx_steps_normalized_slug ON pgflow.steps (flow_slug, lower(step_slug));
ALTER TABLE pgflow.steps ADD COLUMN queue_name text;
ALTER TABLE pgflow.step_tasks ADD COLUMN queue_name text;
UPDATE pgflow.steps SET queue_name = lower(flow_slug);
UPDATE pgflow.step_tasks SET queue_name = lower(flow_slug);
ALTER TABLE pgflow.steps ALTER COLUMN queue_name SET NOT NULL;
ALTER TABLE pgflow.step_tasks ALTER COLUMN queue_name SET NOT NULL;
DROP INDEX pgflow.idx_step_tasks_message_id;
CREATE UNIQUE INDEX idx_step_tasks_queue_message ON pgflow.step_tasks (queue_name, message_id)
    WHERE message_id IS NOT NULL;

-- Underscores separate the parts of a queue's name. Rows that are there already stay, until they are next written.
CREATE OR REPLACE FUNCTION pgflow.is_valid_slug(slug text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT slug IS NOT NULL AND slug ~ '^[a-zA-Z](_?[a-zA-Z0-9])*$' AND length(slug) <= 128 AND slug <> 'run'
$$;

-- A queue belongs to one flow, and is created in lower case.
CREATE OR REPLACE FUNCTION pgflow.create_flow(
    flow_slug text, max_attempts integer DEFAULT 3, base_delay integer DEFAULT 5, timeout integer DEFAULT 60
) RETURNS pgflow.flows LANGUAGE plpgsql AS $$
DECLARE
    made pgflow.flows;
    is_new boolean := NOT EXISTS (
        SELECT FROM pgflow.flows AS flow WHERE lower(flow.flow_slug) = lower(create_flow.flow_slug));
    is_listed boolean := EXISTS (
        SELECT FROM pgmq.meta WHERE lower(meta.queue_name) = lower(create_flow.flow_slug));
BEGIN
    IF is_new AND is_listed THEN
        RAISE unique_violation USING MESSAGE = format('queue "%s" is taken', lower(create_flow.flow_slug));
    END IF;
    INSERT INTO pgflow.flows AS flow (flow_slug, opt_max_attempts, opt_base_delay, opt_timeout)
    VALUES (create_flow.flow_slug, max_attempts, base_delay, timeout)
    ON CONFLICT ON CONSTRAINT flows_pkey DO UPDATE SET flow_slug = flow.flow_slug
    RETURNING * INTO made;
    IF NOT is_listed THEN
        PERFORM pgmq.create(lower(create_flow.flow_slug));
    END IF;
    RETURN made;
END
$$;

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
DECLARE
    -- Without a route map the flow's own queue is meant.
    routed boolean := NOT EXISTS (
        SELECT FROM jsonb_array_elements(shape -> 'steps') WITH ORDINALITY AS shaped(step, number)
        FULL JOIN jsonb_array_elements(route_map) WITH ORDINALITY AS routes(route, number) USING (number)
        WHERE route_map IS NOT NULL AND route IS DISTINCT FROM jsonb_build_object(
            'stepSlug', step -> 'slug', 'queueName', lower(ensure_flow_compiled.flow_slug)));
    found jsonb;
BEGIN
    IF queue_mode <> 'flow' THEN
        RAISE EXCEPTION 'no catalogue compiles a flow with a queue for each step';
    END IF;
    IF NOT routed THEN
        RAISE EXCEPTION 'the route map of flow "%" is not the one that follows from its steps', ensure_flow_compiled.flow_slug;
    END IF;
    found := pgflow.compile_shape(ensure_flow_compiled.flow_slug, shape, pgflow.is_local());
    IF found ->> 'status' = 'verified' AND EXISTS (
        SELECT FROM pgflow.flows AS flow
        WHERE flow.flow_slug = ensure_flow_compiled.flow_slug AND flow.queue_mode <> ensure_flow_compiled.queue_mode
    ) THEN
        RETURN '{"status": "mismatch", "differences": ["the flow has a queue for each step"], "mismatchKind": "routing"}';
    END IF;
    RETURN found || jsonb_build_object('mismatchKind', CASE found ->> 'status' WHEN 'mismatch' THEN 'shape' END);
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
