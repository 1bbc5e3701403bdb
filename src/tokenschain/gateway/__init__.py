"""The data plane: every call comes in here."""
