-- pgflow announces every change of state through Supabase's realtime.send. Here nothing becomes of it.
CREATE SCHEMA IF NOT EXISTS realtime;

CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE sql AS $$
    -- flowworker announces: none
$$;
