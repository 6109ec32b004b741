"""``--frame-stack``, beside what a configuration says."""

from __future__ import annotations

from lipsrl._validation import positive_int


def frames_said(given: int | None, stated: int | None) -> int | None:
    """``given`` on the command line, else what is ``stated`` beside the model; None: neither.

    Raises:
        ValueError: ``given`` is below 1.
    """
    # not «given or stated»: a 0 would be ignored
    return stated if given is None else positive_int("frame_stack", given)
