"""Response cache rules as pure functions: key, store, directives."""
