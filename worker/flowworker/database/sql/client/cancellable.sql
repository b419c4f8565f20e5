-- Of runs `r` under way, those that had started by a moment.
AND r.started_at <= {moment}
