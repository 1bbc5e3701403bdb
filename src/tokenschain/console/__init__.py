"""The web console: pages over the admin API, in Chinese and English."""
