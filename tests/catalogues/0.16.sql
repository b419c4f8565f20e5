-- Compilation can no longer be asked to lose data.
DROP FUNCTION pgflow.ensure_flow_compiled(text, jsonb, boolean);
CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ensure_flow_compiled may delete the runs of a flow; nothing of FlowWorker calls it';
END
$$;
