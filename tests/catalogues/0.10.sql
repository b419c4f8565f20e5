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

-- A database where this is true is one whose flows ensure_flow_compiled may destroy.
CREATE FUNCTION pgflow.is_local() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;

CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ensure_flow_compiled may delete the runs of a flow; nothing of FlowWorker calls it';
END
$$;

CREATE FUNCTION pgflow.delete_flow_and_data(p_flow_slug text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'delete_flow_and_data deletes the runs of a flow; nothing of FlowWorker calls it';
END
$$;
