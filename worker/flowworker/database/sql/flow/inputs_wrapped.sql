-- Core 0.8 to 0.11: a single step finds the run's input under the reserved key `run`; a map task is its element.
CASE WHEN mine.is_map THEN started.input ELSE started.input - 'run' END AS input,
    CASE WHEN NOT mine.is_map THEN started.input -> 'run' END AS flow_input
