"""Two trials on one engine never call two things alike."""

from pathlib import Path

import pytest

from taxiway.trial.layout import Layout
from taxiway.trial.naming import Names, names_of


def named(checkout: str, home: str) -> Names:
    return names_of(Layout(checkout=Path(checkout), home=Path(home)))


def test_trial_of_make_has_plain_names() -> None:
    names = named("/clone", "/clone/.trial-docker")

    assert (names.project, names.owner, names.network) == ("taxiway", "composetrial", "taxiway-variants")
    assert names.images["s3"] == "taxiway-compose/s3:local"


@pytest.mark.parametrize("home", ["/clone/another", "/elsewhere/.trial-docker"])
def test_trial_in_another_folder_shares_no_name(home: str) -> None:
    usual, names = named("/clone", "/clone/.trial-docker"), named("/clone", home)

    assert names == named("/clone", home)
    assert names.project != usual.project
    assert names.network != usual.network
    assert not set(names.images.values()) & set(usual.images.values())
    # So much of an owner is in the name of a variant's container.
    assert len({names.owner[:8], usual.owner[:8], named("/clone", "/clone/third").owner[:8]}) == 3
