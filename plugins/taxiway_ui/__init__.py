"""Pages in Airflow's own UI. It may import `taxiway`; nothing imports it. No page is here yet."""
