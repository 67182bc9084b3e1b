"""How a comparison shows itself; reading it from MLflow is tested with a server."""

from taxiway.research import Comparison

ROW = {
    "rank": 1,
    "score": 0.95,
    "version": "2",
    "params": {"c": "<b>"},
    "params.c": "<b>",
    "data": "digits@v1",
}
OTHER = {"rank": 2, "score": 0.5, "version": "", "params": {"d": "1"}, "params.d": "1", "data": "digits@v1"}


def table() -> Comparison:
    rows = tuple(row | {"code": "c0de", "run": "1a", "url": "http://mlflow/#/a"} for row in (ROW, OTHER))
    return Comparison(handle="digits", metric="score", rows=rows)


def test_comparison_as_text_has_a_line_for_each_row() -> None:
    first, *lines = str(table()).splitlines()
    assert first.split() == ["rank", "score", "version", "params.c", "params.d", "data", "code", "run"]
    assert [line.split()[:2] for line in lines] == [["1", "0.95"], ["2", "0.5"]]


def test_comparison_as_html_is_escaped_and_links_its_runs() -> None:
    text = table()._repr_html_()
    assert text.count("<tr>") == 3
    assert "&lt;b&gt;" in text
    assert '<a href="http://mlflow/#/a">1a</a>' in text


def test_comparison_is_its_rows() -> None:
    assert [row["rank"] for row in table()] == [1, 2]
    assert len(table()) == 2
