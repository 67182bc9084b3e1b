"""The controller: holds the desired state of every endpoint, and reconciles the world with it, tick by tick."""
