-- Registers functions with pgflow, as its own workers do; `process` says that they start by themselves, so that
-- nothing calls them over HTTP. One for each flow, under the name that pgflow.workers has: workers come and go.
SELECT pgflow.track_worker_function(function_name => 'py:' || served.slug, start_mode => 'process')
FROM (SELECT DISTINCT slug FROM unnest($1::text[]) AS s(slug) ORDER BY slug) AS served
