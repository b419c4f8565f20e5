-- Whether everything in a queue has been finished.
SELECT NOT EXISTS (SELECT FROM {queue_table}) /* flowworker-bench */
