"""The screens are pure text: what they show is compared letter by letter."""

import pytest

from taxiway.trial import screen

STORY = [
    (60.0, {1: 100.0}),
    (90.0, {1: 95.0, 2: 5.0}),
    (96.0, {1: 75.0, 2: 25.0}),
    (102.0, {2: 100.0}),
    (150.0, {2: 95.0, 3: 5.0}),
    (153.0, {2: 100.0}),
    (180.0, {2: 100.0}),
]


def test_chart_shows_the_whole_story() -> None:
    assert screen.chart(STORY, width=40) == (
        "  version 1   |██████████▇▇▆▆                          |",
        "  version 2   |          ▁▁▂▂████████████████▇█████████|",
        "  version 3   |                              ▁         |",
        "               60 s                               180 s",
    )


def test_chart_can_be_drawn_with_ascii_only() -> None:
    drawn = "\n".join(screen.chart(STORY, width=40, is_plain=True))

    assert drawn.isascii()
    assert "|          ..::" in drawn


def test_chart_shows_a_canary_that_was_shorter_than_a_column() -> None:
    splits = [(0.0, {1: 100.0}), (500.0, {1: 95.0, 2: 5.0}), (500.2, {1: 100.0}), (1000.0, {1: 100.0})]

    rows = screen.chart(splits, width=10)

    assert rows[1].count("▁") == 1


@pytest.mark.parametrize("splits", [[], [(5.0, {1: 100.0})]], ids=["no traffic", "one moment"])
def test_chart_takes_short_stories(splits: list[tuple[float, dict[int, float]]]) -> None:
    assert screen.chart(splits, width=10)


@pytest.mark.parametrize(
    ("shares", "bar"),
    [
        ({}, "no traffic yet"),
        ({1: 100.0}, "██████████ v1 100 %"),
        ({1: 95.0, 2: 5.0}, "v1 ░░░░░░░░░█ v2 5 %"),
        ({2: 75.0, 3: 25.0}, "v2 ░░░░░░░░██ v3 25 %"),
    ],
)
def test_split_bar_shows_any_share_at_all(shares: dict[int, float], bar: str) -> None:
    assert screen.split_bar(shares, width=10) == bar


def test_live_line_counts_what_failed() -> None:
    line = screen.live_line(12.34, {1: 100.0}, rate_rps=50.0, requests=1234, failed=0)

    assert line.startswith("  12.3 s  ████████████████████ v1 100 %")
    assert line.endswith("50 requests/s, 1,234 sent, 0 failed")


def make_closing(**changes: object) -> screen.Closing:
    values: dict[str, object] = {
        "seconds_total": 180.4,
        "seconds_to_first_answer": 58.2,
        "rows": [
            screen.Row(
                version=1, accuracy=0.87, story="the first deployment; 100 %, 95 %, 75 %, 0 %; replaced"
            ),
            screen.Row(version=2, accuracy=0.941, story="tuned; 5 %, 25 %, 100 %; live"),
            screen.Row(
                version=3, accuracy=None, story="fails on a part of the requests; 5 %, 0 %; rolled back"
            ),
        ],
        "splits": STORY,
        "requests": 6120,
        "failed": 0,
        "rate_rps": 50.0,
        "rollback_s": 3.24,
        "peak_memory_mb": 2345.0,
        "curl": "curl -i -F image=@7.png http://127.0.0.1:8580/visual_recognition/predict",
        "links": {"Airflow": "http://127.0.0.1:8080", "MLflow": "http://127.0.0.1:5000"},
        "next_step": "make trial",
    }
    return screen.Closing(**(values | changes))  # type: ignore[arg-type]


def test_closing_screen_says_what_happened() -> None:
    assert "\n".join(screen.closing(make_closing(), width=40)) == (
        """
The whole path in 180 s, first answer after 58 s

  version  accuracy  what happened
  1        0.870     the first deployment; 100 %, 95 %, 75 %, 0 %; replaced
  2        0.941     tuned; 5 %, 25 %, 100 %; live
  3        -         fails on a part of the requests; 5 %, 0 %; rolled back

  Traffic over time, as read back from Envoy
  version 1   |██████████▇▇▆▆                          |
  version 2   |          ▁▁▂▂████████████████▇█████████|
  version 3   |                              ▁         |
               60 s                               180 s

  Failed requests   0 of 6,120, at 50 requests/s
  Rollback          3.2 s, from the first bad answer to 0 % read back
  Memory            2,345 MB at the most, all processes together

  Ask it   curl -i -F image=@7.png http://127.0.0.1:8580/visual_recognition/predict
  Airflow  http://127.0.0.1:8080
  MLflow   http://127.0.0.1:5000
  Next     make trial"""
    )


def test_closing_screen_does_not_invent_a_rollback() -> None:
    lines = screen.closing(make_closing(rollback_s=None, seconds_to_first_answer=None))

    assert "  Rollback          nothing was rolled back" in lines
    assert "The whole path in 180 s, no answer" in lines
