"""Pages in Airflow's own UI, read-only. It may import `taxiway`; nothing imports it."""
