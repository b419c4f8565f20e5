-- Worker management: a stop time beside the deprecation time, and functions that pgflow itself could start.
ALTER TABLE pgflow.workers ADD COLUMN stopped_at timestamptz;

CREATE TABLE pgflow.worker_functions (
    function_name   text PRIMARY KEY,
    enabled         boolean NOT NULL DEFAULT true,
    debounce        interval NOT NULL DEFAULT '6 seconds',
    last_invoked_at timestamptz
);

CREATE FUNCTION pgflow.mark_worker_stopped(worker_id uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE pgflow.workers AS worker SET stopped_at = clock_timestamp()
    WHERE worker.worker_id = mark_worker_stopped.worker_id
$$;

CREATE FUNCTION pgflow.track_worker_function(function_name text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pgflow.worker_functions (function_name) VALUES (track_worker_function.function_name)
    ON CONFLICT DO NOTHING
$$;

-- A database where this is true is one whose flows ensure_flow_compiled may destroy. The real one asks a setting.
CREATE FUNCTION pgflow.is_local() RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;

-- What of a step of a shape counts in a comparison: options do not.
CREATE FUNCTION pgflow.compared_step(step jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'slug', step -> 'slug',
        'stepType', step -> 'stepType',
        'dependencies', (
            SELECT coalesce(jsonb_agg(dep ORDER BY dep COLLATE "C"), '[]')
            FROM jsonb_array_elements_text(step -> 'dependencies') AS dep)
    )
$$;

CREATE FUNCTION pgflow.stored_steps(slug text) RETURNS SETOF jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'slug', step.step_slug,
        'stepType', step.step_type,
        'dependencies', ARRAY(
            SELECT dep.dep_slug FROM pgflow.deps AS dep
            WHERE dep.flow_slug = step.flow_slug AND dep.step_slug = step.step_slug)
    )
    FROM pgflow.steps AS step WHERE step.flow_slug = stored_steps.slug ORDER BY step.step_index
$$;

CREATE FUNCTION pgflow.add_shaped_step(slug text, step jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT FROM pgflow.add_step(
        flow_slug => slug,
        step_slug => step ->> 'slug',
        deps_slugs => ARRAY(SELECT jsonb_array_elements_text(step -> 'dependencies')),
        max_attempts => (step #>> '{options,maxAttempts}')::integer,
        base_delay => (step #>> '{options,baseDelay}')::integer,
        timeout => (step #>> '{options,timeout}')::integer,
        start_delay => (step #>> '{options,startDelay}')::integer,
        step_type => step ->> 'stepType')
$$;

-- Positions at which the steps of a shape and those of the database are not the same.
CREATE FUNCTION pgflow.shape_differences(slug text, shape jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT coalesce(jsonb_agg(format('step %s: %s in the shape, %s in the database', number, given, stored)), '[]')
    FROM (
        SELECT number, pgflow.compared_step(step) AS given
        FROM jsonb_array_elements(shape -> 'steps') WITH ORDINALITY AS shaped(step, number)
    ) AS theirs
    FULL JOIN (
        SELECT number, pgflow.compared_step(step) AS stored
        FROM pgflow.stored_steps(slug) WITH ORDINALITY AS stored(step, number)
    ) AS ours USING (number)
    WHERE given IS DISTINCT FROM stored
$$;

-- Creates a flow, or compares it; never changes one.
CREATE FUNCTION pgflow.compile_shape(slug text, shape jsonb, may_destroy boolean) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    differences jsonb;
BEGIN
    PERFORM pg_advisory_xact_lock(1, hashtext(slug));
    IF NOT EXISTS (SELECT FROM pgflow.flows AS flow WHERE flow.flow_slug = slug) THEN
        PERFORM pgflow.create_flow(
            slug,
            coalesce((shape #>> '{options,maxAttempts}')::integer, 3),
            coalesce((shape #>> '{options,baseDelay}')::integer, 5),
            coalesce((shape #>> '{options,timeout}')::integer, 60));
        PERFORM pgflow.add_shaped_step(slug, step) FROM jsonb_array_elements(shape -> 'steps') AS step;
        RETURN jsonb_build_object('status', 'compiled', 'differences', '[]'::jsonb);
    END IF;
    differences := pgflow.shape_differences(slug, shape);
    IF differences <> '[]' AND may_destroy THEN
        RAISE EXCEPTION 'ensure_flow_compiled would delete flow "%" with its runs; no catalogue does', slug;
    END IF;
    RETURN jsonb_build_object(
        'status', CASE differences WHEN '[]' THEN 'verified' ELSE 'mismatch' END, 'differences', differences);
END
$$;

CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pgflow.compile_shape(ensure_flow_compiled.flow_slug, shape, pgflow.is_local())
$$;

CREATE FUNCTION pgflow.delete_flow_and_data(p_flow_slug text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'delete_flow_and_data deletes the runs of a flow; nothing of FlowWorker calls it';
END
$$;
