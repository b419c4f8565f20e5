-- The same columns in a heartbeat.
, begun_at = greatest(w.begun_at, excluded.begun_at),
        unwritten_for = excluded.unwritten_for,
        unclaimed_for = excluded.unclaimed_for,
        doubts = excluded.doubts,
        network_namespace = excluded.network_namespace,
        option_changes = excluded.option_changes
