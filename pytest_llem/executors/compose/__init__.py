"""Experiments in containers: long-lived Compose services, into which orders are dispatched by `docker exec`."""
