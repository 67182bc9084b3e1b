"""Airflow operators over the library, one file each; a DAG imports them by their module. Nothing is imported here."""
