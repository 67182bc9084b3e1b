"""The routes of feedback in a process of their own, for tests that kill it. Arguments: port, database, token."""

import sys
from contextlib import closing

import uvicorn
from fastapi import FastAPI

from taxiway_serving.controller.feedback import Evidence, add_evidence_routes
from taxiway_serving.controller.roles import Tokens
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore


def main() -> None:
    """Serve until killed."""
    port, database, token = sys.argv[1:]
    app = FastAPI()
    with closing(SqlStore(database)) as store, closing(SqlRewards(database)) as rewards:
        add_evidence_routes(app, Evidence(rewards=rewards, store=store, tokens=Tokens(operator=token)))
        uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
