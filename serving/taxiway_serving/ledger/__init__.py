"""What the controller remembers: desired state, evidence and the append-only history of every decision."""
