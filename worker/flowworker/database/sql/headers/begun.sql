-- Whether a lease's holder has said that the handlers of what it claimed then had begun. Microseconds, as in `claimed_at`.
coalesce(
    (extract(epoch FROM head.begun_at) * 1000000)::bigint
    >= CASE jsonb_typeof({ours} -> 'claimed_at') WHEN 'number' THEN ({ours} ->> 'claimed_at')::numeric END,
    false
)
