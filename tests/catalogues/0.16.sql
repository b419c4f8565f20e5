-- Compilation can no longer be asked to lose data.
DROP FUNCTION pgflow.ensure_flow_compiled(text, jsonb, boolean);
CREATE FUNCTION pgflow.ensure_flow_compiled(flow_slug text, shape jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pgflow.compile_shape(ensure_flow_compiled.flow_slug, shape, pgflow.is_local())
$$;
