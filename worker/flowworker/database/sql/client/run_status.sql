-- What a waiting client asks again and again: as little as it takes.
SELECT status FROM pgflow.runs WHERE run_id = $1
