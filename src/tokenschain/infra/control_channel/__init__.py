"""The signed HTTP channel from gateways to control."""
