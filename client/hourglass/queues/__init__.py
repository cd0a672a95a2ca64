"""Queues whose tasks are jobs, a module for each; importing one imports its queue."""
