"""The message of an error that a user is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qdsft.errors import UserError


def refusal(call: Callable[[], object]) -> str:
    """Return the message of the UserError that a call raises: one line that can be printed."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    message.encode("utf-8")
    return message
