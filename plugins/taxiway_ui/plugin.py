"""What Airflow loads: the navigation entry and the application behind it.

Every process of Airflow imports this module, the scheduler and each worker too, so it imports next to nothing; the
application is made when the API server asks for it.
"""

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/taxiway"


class TaxiwayPlugin(AirflowPlugin):
    """The page of live traffic; `docs/history.md` describes it."""

    name = "taxiway"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application; only the API server reads this."""
        from taxiway_ui.app import create_app

        return [{"app": create_app(), "url_prefix": PREFIX, "name": "Taxiway"}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The entry in Airflow's navigation, which shows the page in a frame."""
        # The frame's address is taken as it stands, so a prefix that Airflow is served under belongs to it.
        root = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX
        icon = {"icon": f"{root}/static/icon.svg", "icon_dark_mode": f"{root}/static/icon-dark.svg"}
        view = {"name": "Traffic", "href": f"{root}/", "destination": "nav", "url_route": "taxiway"}
        return [view | icon | {"nav_top_level": True}]
