"""Content of calls: sealed under tenant and day keys, kept as long as asked, and destroyed."""
