"""The admin API `/api/v1`: routers over one context."""
