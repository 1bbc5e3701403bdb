"""Rate limits and budgets: reservation and leases."""
