-- Takes back what one FlowWorker's operator asked for.
DELETE FROM flowworker.drains WHERE created_by = $1::text AND target = ANY($2::text[])
