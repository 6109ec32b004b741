"""Worst-case disturbances: observations moved inside a budget so that a policy errs most."""

from lipsrl.attacks._base import Attack
from lipsrl.attacks._gradient_attack import GradientAttack
from lipsrl.attacks.mad_attack import MADAttack
from lipsrl.attacks.random_attack import RandomAttack

#: name -> class of every attack
ATTACKS: dict[str, type[Attack]] = {cls.name: cls for cls in (RandomAttack, MADAttack)}

__all__ = ["ATTACKS", "Attack", "GradientAttack", "MADAttack", "RandomAttack"]
