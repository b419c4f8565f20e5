-- pgflow announces every change of state through Supabase's realtime.send. On a plain PostgreSQL it becomes a small
-- NOTIFY on channel `pgflow`: ids and states only, because a payload must stay below 8,000 bytes. It must never raise.
CREATE SCHEMA IF NOT EXISTS realtime;

CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE sql AS $$
    -- flowworker announces: all
    SELECT pg_notify('pgflow', json_build_object('event', event, 'run_id', payload->>'run_id')::text)
$$;
