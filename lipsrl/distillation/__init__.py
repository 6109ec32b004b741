"""Distil an existing agent into a Lipschitz student, and measure what each K costs."""

from lipsrl.distillation._distill import distill
from lipsrl.distillation._fine_tune import fine_tune
from lipsrl.distillation._frontier import TEACHER, Frontier, certificate_or_none, frontier
from lipsrl.distillation._parallel import Student
from lipsrl.distillation._rounds import InterruptedWarning
from lipsrl.distillation._student import student_environments

__all__ = [
    "TEACHER",
    "Frontier",
    "InterruptedWarning",
    "Student",
    "certificate_or_none",
    "distill",
    "fine_tune",
    "frontier",
    "student_environments",
]
