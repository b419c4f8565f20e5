"""Builds the images with what the machine has: docker, podman or buildah, with a registry or without one."""
