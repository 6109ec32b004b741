"""Worst-case disturbances: observations moved inside a budget so that a policy errs most."""

from lipsrl.attacks._base import Attack
from lipsrl.attacks._gradient_attack import GradientAttack
from lipsrl.attacks.constant_bias_attack import ConstantBiasAttack
from lipsrl.attacks.critic_attack import CriticAttack
from lipsrl.attacks.mad_attack import MADAttack
from lipsrl.attacks.minimum import MinimumOverAttacks, minimum_rows, robust_sarsa_scan, worst_attacks
from lipsrl.attacks.random_attack import RandomAttack
from lipsrl.attacks.robust_sarsa_attack import RobustSarsaAttack

#: name -> class of every attack
ATTACKS: dict[str, type[Attack]] = {
    cls.name: cls for cls in (RandomAttack, MADAttack, CriticAttack, ConstantBiasAttack, RobustSarsaAttack)
}

__all__ = [
    "ATTACKS",
    "Attack",
    "ConstantBiasAttack",
    "CriticAttack",
    "GradientAttack",
    "MADAttack",
    "MinimumOverAttacks",
    "RandomAttack",
    "RobustSarsaAttack",
    "minimum_rows",
    "robust_sarsa_scan",
    "worst_attacks",
]
