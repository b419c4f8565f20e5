-- pgflow announces every change of state through Supabase's realtime.send. On a plain PostgreSQL the ends of runs become
-- a small NOTIFY on channel `pgflow`; starts and steps do not, because transactions with a NOTIFY commit one by one.
CREATE SCHEMA IF NOT EXISTS realtime;

CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE sql AS $$
    -- flowworker announces: ends
    SELECT CASE
        WHEN event IN ('run:completed', 'run:failed')
        THEN pg_notify('pgflow', json_build_object('event', event, 'run_id', payload->>'run_id')::text)
    END
$$;
