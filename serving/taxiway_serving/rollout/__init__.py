"""The one state machine of every strategy, and what it judges by. Pure: time and measurements are arguments."""
