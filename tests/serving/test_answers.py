"""Yes, no and unknown."""

import pytest

from taxiway_serving.answers import Answer


@pytest.mark.parametrize("answer", Answer)
def test_answer_is_no_bool(answer: Answer) -> None:
    with pytest.raises(TypeError, match=r"is Answer\.YES"):
        bool(answer)


def test_answer_of_a_fact() -> None:
    assert [Answer.of(fact) for fact in (True, False, None)] == [Answer.YES, Answer.NO, Answer.UNKNOWN]
