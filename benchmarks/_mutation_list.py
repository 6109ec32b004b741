"""What `benchmarks.mutations` breaks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One invariant, broken.

    Attributes:
        name: what is broken, in words.
        file: under ``lipsrl/``.
        old, new: the exact text that is replaced.
        tests: folders or files under ``tests/`` that ought to notice.
        only: those of their tests that speak of it (pytest's ``-k``); all if empty.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    only: str = ""


#: In the order of the rooms, from the layers up.
MUTATIONS = (
    Mutation(
        "spectral: exact projection does nothing",
        "layers/spectral.py",
        "        matrix = self.weight.double() / self.radius\n        gram = smaller_gram(matrix)\n",
        "        return False\n        matrix = self.weight.double() / self.radius\n"
        "        gram = smaller_gram(matrix)\n",
        ("layers/test_layer_contract.py",),
    ),
    Mutation(
        "sandwich: exact projection does nothing",
        "layers/sandwich.py",
        "return self._adopt(retract_exactly(self.stack, self.held))",
        "return self._adopt(None)",
        ("layers/test_layer_contract.py",),
    ),
    Mutation(
        "sandwich: inverse of psi missing before the activation",
        "layers/sandwich.py",
        "return Factors(inner * torch.exp(-log_psi).unsqueeze(1), outer * psi, unit_scale=psi)",
        "return Factors(inner, outer * psi, unit_scale=psi)",
        ("layers/test_layer_contract.py",),
    ),
    Mutation(
        "cayley: A is not skew",
        "layers/cayley.py",
        "    shifted -= weight[:n].mT\n",
        "",
        ("layers/test_families.py",),
    ),
    Mutation(
        "aol and sll: diagonal without absolute values",
        "layers/_maps.py",
        "    rows = gram.abs()\n",
        "    rows = gram\n",
        ("layers/test_families.py",),
    ),
    Mutation(
        "spectral: what was clipped by followed directions is not proven",
        "layers/_float32_clip.py",
        "return clipped if gap_proves_contraction(gap, shape, total) else None",
        "return clipped",
        ("layers/test_float32_gram.py",),
        "followed",
    ),
    Mutation(
        "a weight of proven norm speaks for all that are as near as its radius",
        "layers/_reach.py",
        "return self.norm + moved * (1.0 + ROUNDING) <= radius * (1.0 - ROUNDING)",
        "return moved <= radius",
        ("layers/test_reach.py",),
    ),
    Mutation(
        "a guess of the norm is believed",
        "layers/_reach.py",
        "proven = gap_proves_contraction(gap, shape, error)",
        "proven = True",
        ("layers/test_reach.py",),
    ),
    Mutation(
        "spectral norm just below the truth",
        "layers/_linalg.py",
        "* scale * (1.0 + 16 * EPS64 * max(matrix.shape))",
        "* scale * (1.0 - 16 * EPS64 * max(matrix.shape))",
        ("layers/test_families.py", "layers/test_spectral.py"),
    ),
    Mutation(
        "activation: SiLU is not divided by its slope",
        "layers/_activation_modules.py",
        "return F.silu(x) / self.divisor",
        "return F.silu(x)",
        ("layers/test_activations.py",),
    ),
    Mutation(
        "optimizer: copies step without projection (trap 23)",
        "layers/optimizer.py",
        "    cls = _projected_class(base)\n    return cls.__new__(cls)",
        "    return base.__new__(base)",
        ("layers/test_layer_contract.py",),
    ),
    Mutation(
        "network: rounding of merged float32 weights not counted",
        "networks/_stages.py",
        "return perturbed - plain + 4 * EPS64 * len(layers) * perturbed",
        "return 0.0",
        ("test_networks.py",),
    ),
    Mutation(
        "cache: writes in eval mode go unnoticed",
        "networks/_merged.py",
        "        if stamp != self._stamp:\n",
        "        if False:\n",
        ("soundness/test_weights_that_act.py",),
    ),
    Mutation(
        "cache: writes through .data go unnoticed (traps 1, 7)",
        "networks/_merged.py",
        "return self._read() != self._values",
        "return False",
        ("test_contexts.py",),
        "writes or shared_memory",
    ),
    Mutation(
        "cache: weights of a load are not projected",
        "networks/_state.py",
        "    before = module.lipschitz_bound()\n    changed = module.project()\n",
        "    return\n    before = module.lipschitz_bound()\n    changed = module.project()\n",
        ("soundness/test_state_rules.py",),
    ),
    Mutation(
        "network: no projection at the train→eval transition (trap 24)",
        "networks/_merged.py",
        "            same = self._kept_of_these_weights()  # TD3 steps its actor at every second environment step\n"
        "            self._project_aloud()\n",
        "            same = self._kept_of_these_weights()\n",
        ("soundness/test_state_rules.py",),
    ),
    Mutation(
        "td3: weights are averaged into the target before they are exact",
        "policies/td3.py",
        "hold(self.actor.optimizer, self.actor, exact=True)",
        "hold(self.actor.optimizer, self.actor, exact=False)",
        ("policies/test_modes.py", "policies/test_matrix.py", "policies/test_ways_around.py"),
        "TD3 or target",
    ),
    Mutation(
        "td3: the target keeps merged weights (trap 1)",
        "policies/td3.py",
        "self.actor.lipschitz_network.cache_in_eval = True",
        "self.actor.lipschitz_network.cache_in_eval = self.actor_target.lipschitz_network.cache_in_eval = True",
        ("policies/test_modes.py", "policies/test_matrix.py", "policies/test_ways_around.py"),
        "TD3 or target",
    ),
    Mutation(
        "squashed actor: half range of the action left out",
        "policies/_squashed.py",
        "        half_range = action_half_range(actor.action_space)\n        found",
        "        half_range = np.ones_like(action_half_range(actor.action_space))\n        found",
        ("policies/test_heads.py", "policies/test_policy_contract.py"),
        "SAC",
    ),
    Mutation(
        "regularizers: rollout pairs not masked at episode ends (trap 13)",
        "regularizers/_pairs.py",
        "self.has_next = ~np.concatenate([starts[1:], ends]).T.reshape(-1)",
        "self.has_next = np.ones(starts.size, dtype=bool)",
        ("regularizers/test_pairs.py",),
    ),
    Mutation(
        "regularizers: replay pairs not masked at episode ends",
        "regularizers/_pairs.py",
        "led = (self.slots != oldest) & (buffer.dones[before] == 0)",
        "led = self.slots != oldest",
        ("regularizers/test_pairs.py",),
    ),
    Mutation(
        "regularizers: the riding loss gets half of its gradient",
        "regularizers/_ride.py",
        "return gradient, gradient.new_ones(())",
        "return gradient, gradient.new_ones(()) / 2",
        ("regularizers/test_gradients.py",),
    ),
    Mutation(
        "certificate: gain of the observation normalisation left out",
        "certificates/bounds/_upper.py",
        "raw_gain = torch.as_tensor(pipeline.gain) * unit",
        "raw_gain = torch.as_tensor(pipeline.gain) ** 0 * unit",
        ("certificates/test_raw_units.py",),
    ),
    Mutation(
        "certificate: LipSDP and ECLipsE bounds returned unverified",
        "certificates/bounds/_verification.py",
        "        if cholesky(matrix) is not None:\n",
        "        if True:\n",
        ("certificates/test_lipsdp.py",),
    ),
    Mutation(
        "certificate: a stack of frames counts as one",
        "actors/pipeline.py",
        '"l2": math.sqrt(self.chain.frames)',
        '"l2": 1.0',
        ("certificates/test_pipeline.py", "certificates/test_window.py"),
    ),
    Mutation(
        "margin of the greedy action doubled",
        "certificates/deterministic/margins.py",
        "radius = torch.where(gap > 0, gap / bounds[-1], 0.0)",
        "radius = torch.where(gap > 0, 2 * gap / bounds[-1], 0.0)",
        ("certificates/test_margins.py",),
    ),
    Mutation(
        "margin of the greedy action halved",
        "certificates/deterministic/margins.py",
        "radius = torch.where(gap > 0, gap / bounds[-1], 0.0)",
        "radius = torch.where(gap > 0, gap / bounds[-1] / 2, 0.0)",
        ("certificates/test_margins.py",),
    ),
    Mutation(
        "return quantile: attack helps",
        "certificates/stochastic/_probability.py",
        "dtype=np.float64)) - mu))",
        "dtype=np.float64)) + mu))",
        ("certificates/test_stochastic.py",),
    ),
    Mutation(
        "feasibility: floor above the circle's",
        "feasibility/gain_floor.py",
        "        if upper <= 1.001 * seen:\n            return upper\n",
        "        if upper <= 1.001 * seen:\n            return upper / 1.5\n",
        ("feasibility",),
    ),
    Mutation(
        "agent files: pickles may call what they like",
        "actors/_unpickle.py",
        "    return _refused_call(function)\n\n\ndef _make",
        "    return function(*args)\n\n\ndef _make",
        ("actors/test_hostile_files.py",),
    ),
    Mutation(
        "disturbance: draws the environment's own random bits (trap 14)",
        "disturbances/_seeding.py",
        "return child(np.random.SeedSequence(int(seed)), _DISTURBANCE_KEY)",
        "return np.random.SeedSequence(int(seed))",
        ("disturbances", "wrappers/test_observation_disturbance.py"),
    ),
    Mutation(
        "frames: newest first",
        "actors/frames.py",
        "np.concatenate([self._older[rows], newest], axis=self._axis)",
        "np.concatenate([newest, self._older[rows]], axis=self._axis)",
        ("actors/test_frames.py",),
    ),
    Mutation(
        "attack: leaves the l-inf ball",
        "attacks/_norms.py",
        "return np.clip(vectors, -radius, radius)",
        "return np.clip(vectors, -2 * radius, 2 * radius)",
        ("attacks/test_attack_budget.py",),
    ),
    Mutation(
        "evaluation: other noise in paired episodes",
        "evaluation/_rollout.py",
        "seed = disturbance_seed(self._seed, self._disturbance.name, task.episode)",
        "seed = disturbance_seed(self._seed, self._disturbance.name, task.episode + int(100 * task.strength))",
        ("evaluation/test_evaluate.py",),
    ),
    Mutation(
        "evaluation: statistics of the training are updated",
        "evaluation/_controller.py",
        "        return self._vec_normalize.normalize_obs(observations)\n",
        "        self._vec_normalize.obs_rms.update(observations)\n"
        "        return self._vec_normalize.normalize_obs(observations)\n",
        ("evaluation/test_evaluate.py",),
    ),
    Mutation(
        "evaluation: a NaN observation passes",
        "evaluation/_observations.py",
        "        finite = np.isfinite(observations)\n",
        "        finite = np.ones(observations.shape, dtype=bool)\n",
        ("evaluation/test_nonfinite.py",),
    ),
    Mutation(
        "bootstrap: both tails twice as wide",
        "statistics/_resampling.py",
        "return (1 - confidence) / 2, (1 + confidence) / 2",
        "return 1 - confidence, confidence",
        ("test_statistics.py",),
    ),
    Mutation(
        "distillation: the teacher is asked on what the student saw",
        "distillation/_rollouts.py",
        "clean = [self._received(episode.observations, self.teacher.frames) for episode in results]",
        "clean = [self._received(episode.disturbed, self.teacher.frames) for episode in results]",
        ("distillation/test_history.py", "distillation/test_distill.py"),
    ),
    Mutation(
        "export: means of the normalisation in float32",
        "deployment/_describe.py",
        '"observation.mean": pipeline.mean,',
        '"observation.mean": pipeline.mean.astype(np.float32).astype(np.float64),',
        ("deployment/test_folding.py", "deployment/test_normalisations.py"),
    ),
    Mutation(
        "exported policy: a NaN observation passes",
        "deployment/numpy_policy.py",
        "if not finite(seen):",
        "if False:",
        ("deployment/test_numpy_policy.py",),
    ),
    Mutation(
        "exported policy: an output that overflowed passes",
        "deployment/numpy_policy.py",
        "if not finite(x):",
        "if False:",
        ("deployment/test_numpy_policy.py",),
    ),
    Mutation(
        "exported window: the oldest observation is not forgotten",
        "deployment/window_policy.py",
        "        self._older = window[self._dim :]\n        return action\n",
        "        self._older = window[: -self._dim]\n        return action\n",
        ("deployment/test_window_policy.py",),
    ),
    Mutation(
        "files: written in place",
        "_files.py",
        "        yield temporary\n        temporary.replace(target)\n",
        "        yield target\n",
        ("evaluation/test_resume.py", "deployment/test_export.py", "reporting"),
    ),
    Mutation(
        "report: names are not escaped",
        "reporting/report.py",
        "autoescape=True",
        "autoescape=False",
        ("reporting/test_report_page.py",),
    ),
    Mutation(
        "metrics: chatter is the largest step",
        "metrics/_action_fluctuation.py",
        "np.linalg.norm(np.diff(rows, axis=0), axis=1).mean()",
        "np.linalg.norm(np.diff(rows, axis=0), axis=1).max()",
        ("metrics",),
    ),
)
