"""The FlowWorker resource: its spec and status as models, its conditions, and the CRD made from them."""
