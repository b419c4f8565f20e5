-- Our corner of a message's headers.
CASE jsonb_typeof({headers} -> 'flowworker') WHEN 'object' THEN {headers} -> 'flowworker' ELSE '{}'::jsonb END
