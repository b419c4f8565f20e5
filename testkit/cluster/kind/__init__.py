"""Clusters whose nodes are containers, made by kind: in the machine's own container engine, or in one of ours."""
