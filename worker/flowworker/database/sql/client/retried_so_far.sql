-- How many runs a request has started again.
SELECT count(*) FROM flowworker.run_links WHERE request_id = $1
