"""How a script ends: one line for what a person can mend, a traceback for what is our mistake."""

import pytest

from petct.command_line import exit_on_error
from petct.errors import PetctError, StudyError


@pytest.mark.parametrize("error", [PetctError("no studies in x"), StudyError("no studies in x")])
def test_an_error_is_one_line_and_status_1(
    error: PetctError, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, exit_on_error():
        raise error
    assert stopped.value.code == 1
    # No traceback: neither the cause nor the context is shown.
    assert stopped.value.__suppress_context__ and stopped.value.__cause__ is None
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "error: no studies in x\n")


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
    assert capsys.readouterr().err == ""


def test_nothing_wrong_nothing_said(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_on_error():
        pass
    assert capsys.readouterr() == ("", "")
