"""Logs, counters of queries and the results of health checks."""
