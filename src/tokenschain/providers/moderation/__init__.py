"""Cloud moderation engines: requests and replies of each vendor, the runner, and their review."""
