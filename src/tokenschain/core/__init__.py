"""The pure middle: types and decisions without sockets, clock or asyncio."""
