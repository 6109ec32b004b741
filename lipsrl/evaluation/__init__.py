"""What noise costs a policy: paired episodes over models, disturbances and strengths, as one tidy table."""

from lipsrl._episodes import EndlessEpisodeError
from lipsrl.actors.fingerprint import model_fingerprint
from lipsrl.evaluation._evaluate import evaluate
from lipsrl.evaluation._evaluation import Evaluation
from lipsrl.evaluation._floor import random_return
from lipsrl.evaluation._rollout import NonFiniteError
from lipsrl.evaluation._schema import COLUMNS, SCHEMA_VERSION
from lipsrl.evaluation._trace import rollout_trace

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "EndlessEpisodeError",
    "Evaluation",
    "NonFiniteError",
    "evaluate",
    "model_fingerprint",
    "random_return",
    "rollout_trace",
]
