"""Disturbances as options: one, or several of which one is drawn for each episode; attacks among them."""

from __future__ import annotations

from collections.abc import Sequence

from lipsrl._validation import lookup
from lipsrl.attacks import ATTACKS, Attack, GradientAttack, RandomAttack, RobustSarsaAttack
from lipsrl.disturbances import DISTURBANCES, Disturbance, Mixture, parse_disturbance
from lipsrl.disturbances._registry import composed, written

#: Attacks that need nothing but a model to aim at.
AIMABLE: dict[str, type[Attack]] = {
    name: cls
    for name, cls in ATTACKS.items()
    if issubclass(cls, (RandomAttack, GradientAttack)) and cls is not RobustSarsaAttack
}


def read_mixture(texts: Sequence[str]) -> Disturbance | None:
    """``NAME:VALUE...`` of :func:`lipsrl.disturbances.parse_disturbance`, or ``NAME:EPSILON`` of an attack.

    Several are a :class:`~lipsrl.disturbances.Mixture`; none is None. Attacks have no target model: whoever runs
    episodes aims them. Their ball is l-inf in units of what the policy receives.

    Raises:
        ValueError: an unknown name, or a value that is no number.
    """
    read = [_read(text) for text in texts]
    return None if not read else read[0] if len(read) == 1 else Mixture(read)


def _read(text: str) -> Disturbance:
    parts = composed(text)
    if len(parts) > 1 and any(part.partition(":")[0] in AIMABLE for part in parts):
        raise ValueError(
            f"{text!r}: '+' cannot combine an attack with other disturbances. Write the attack as a separate word; "
            "if there are several words, one is drawn for each episode."
        )
    name, _, value = text.partition(":")
    if name not in AIMABLE or name in DISTURBANCES:
        if name.isidentifier():
            lookup("disturbance", name, {**written(), **AIMABLE})  # suggests attacks, too
        return parse_disturbance(text)
    try:
        epsilon = float(value)
    except ValueError:
        raise ValueError(
            f"{text!r}: an attack is written NAME:EPSILON, such as {name}:0.1, received {value!r} for epsilon."
        ) from None
    return AIMABLE[name](None, epsilon)
