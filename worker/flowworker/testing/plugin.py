"""The pytest plugin for people who write flows."""
