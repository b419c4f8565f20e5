-- Columns that an installation from before does not have; each may follow a list of others.
, begun_at, unwritten_for, unclaimed_for, doubts, network_namespace, option_changes
