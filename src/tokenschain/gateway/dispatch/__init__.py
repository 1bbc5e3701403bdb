"""Load balancing: upstream selection, queues, failover, health."""
