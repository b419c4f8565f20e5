-- For the rest of the transaction: how long a statement may take, in milliseconds as text; and plans are made for the
-- values given, because one for any values would use no index.
SELECT set_config('statement_timeout', $1::text, true), set_config('plan_cache_mode', 'force_custom_plan', true)
