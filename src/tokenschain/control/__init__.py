"""The control plane: administration, ledger, billing, publishing of snapshots."""
