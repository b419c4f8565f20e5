-- A counter in our corner of a message's headers; 0 where it is missing, and a sane number whatever was put there.
CASE jsonb_typeof({ours} -> '{name}') WHEN 'number' THEN least(greatest(trunc(({ours} ->> '{name}')::numeric), 0), 1000000)::integer ELSE 0 END
