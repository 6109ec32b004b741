"""The policy of a model, for the packages above this one."""

from lipsrl._unwrapped import policy_of as policy_of
