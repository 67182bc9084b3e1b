"""Runs once before Airflow: makes the databases, their roles and the buckets, then becomes `airflow db migrate`.

What is there already is left alone, but for passwords, which are set to those of the secrets.
"""

import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import psycopg2
from botocore.exceptions import ClientError
from psycopg2 import sql

SECRETS = Path("/run/secrets")
DATABASES = ("airflow_database", "mlflow_database", "controller_database")
BUCKETS = ("mlflow", "datasets")


def main() -> None:
    """Prepare PostgreSQL and the artifact store, then migrate Airflow's database."""
    for name in DATABASES:
        make_database((SECRETS / name).read_text().strip())
    for bucket in BUCKETS:
        make_bucket(bucket)
    os.execv(sys.executable, [sys.executable, "-m", "airflow", "db", "migrate"])


def make_database(address: str) -> None:
    """Make the role and the database that an address names; nobody else may connect to it."""
    parts = urlsplit(address)
    role, database = sql.Identifier(parts.username or ""), sql.Identifier(parts.path.lstrip("/"))
    password = sql.Literal(unquote(parts.password or ""))
    admin = (SECRETS / "postgres_password").read_text().strip()
    connection = psycopg2.connect(
        host=parts.hostname, port=parts.port, user="postgres", password=admin, dbname="postgres"
    )
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [parts.username])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, password))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [parts.path.lstrip("/")])
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
            # Each time: whoever made the database may have ended before this.
            cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
    finally:
        connection.close()


def make_bucket(name: str) -> None:
    """Make a bucket of the artifact store, unless it is there."""
    client = boto3.client("s3")
    try:
        client.head_bucket(Bucket=name)
    except ClientError:
        client.create_bucket(Bucket=name)


if __name__ == "__main__":
    main()
