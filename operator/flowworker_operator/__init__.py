"""The FlowWorker operator."""
