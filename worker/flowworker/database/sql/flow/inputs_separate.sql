-- Core 0.12 and newer: the run's input travels beside the input, for root single steps only.
started.input, started.flow_input
