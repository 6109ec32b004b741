"""Several students of one teacher, one after the other or in worker processes."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from tqdm import tqdm

from lipsrl._episodes import EndlessEpisodeError
from lipsrl.certificates import Certificate, certify
from lipsrl.distillation._distill import distill
from lipsrl.distillation._rounds import InterruptedWarning
from lipsrl.distillation._student import frozen_normalization, student_environments
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation._environments import Env, EnvLike, environment_factory
from lipsrl.evaluation._workers import start_method
from lipsrl.wrappers._strength import Level


@dataclass(frozen=True)
class Order:
    """A student that is asked for."""

    lipschitz_bound: float
    noise_level: Level = 0.0
    history: int | None = None

    @property
    def name(self) -> str:
        """Of its agent in a table."""
        window = "" if self.history is None else f", {self.history} frame{'s' * (self.history > 1)}"
        return f"K={self.lipschitz_bound:g}{window}" + (f", shown {self.shown}" if self.strongest else "")

    @property
    def strongest(self) -> float:
        """The greatest strength that it is shown."""
        return self.noise_level[1] if isinstance(self.noise_level, tuple) else self.noise_level

    @property
    def shown(self) -> str:
        """The strengths that it is shown, in words."""
        level = self.noise_level
        return f"{level[0]:g}:{level[1]:g}" if isinstance(level, tuple) else f"{level:g}"


@dataclass(frozen=True, eq=False)
class Student(Order):
    """A student, and how it came about.

    Attributes:
        lipschitz_bound: its K, in units of what the policy receives.
        noise_level: strength of the disturbance that it was shown while it learned, or (low, high) between which it was
            drawn; 0: none.
        history: how many observations it sees at once; None: as many as its teacher.
        model: the SB3 model.
        certificate: of the model.
        warnings: what its distillation had to say, such as that its return collapses.
    """

    model: BaseAlgorithm = field(kw_only=True)
    certificate: Certificate = field(kw_only=True)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Lesson:
    """All that a student is made from, but its order; ``distil`` is what a worker process does."""

    model: BaseAlgorithm
    make_env: Callable[[], Env]
    noise: Disturbance
    options: dict[str, Any]

    def distil(self, order: Order) -> tuple[Student, bool]:
        """The student, and whether it was interrupted."""
        shown = self.noise if order.strongest else None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            model = distill(
                self.model,
                self.make_env,
                lipschitz_bound=order.lipschitz_bound,
                disturbance=shown,
                strength=order.noise_level if order.strongest else 1.0,
                history=order.history,
                **self.options,
            )
        texts = tuple(str(warning.message) for warning in said)
        interrupted = any(issubclass(warning.category, InterruptedWarning) for warning in said)
        certificate = certify(model, vec_normalize=self.options["vec_normalize"])
        asked = dataclasses.asdict(order)
        return Student(**asked, model=model, certificate=certificate, warnings=texts), interrupted

    def packed(self) -> bytes:
        """For another process: SB3 models travel as their zips, and a normalisation around an environment."""
        file = io.BytesIO()
        self.model.save(file)
        statistics = self.options["vec_normalize"]
        if statistics is not None:
            # one that was loaded from a file alone cannot be pickled
            statistics = frozen_normalization(student_environments(self.make_env, 1, None), statistics)
        content: bytes = cloudpickle.dumps(
            (
                type(self.model),
                file.getvalue(),
                self.make_env,
                self.noise,
                self.options | {"vec_normalize": statistics},
            )
        )
        return content

    @classmethod
    def of(cls, packed: bytes) -> _Lesson:
        """What :meth:`packed` gave."""
        algorithm, content, make_env, noise, options = cloudpickle.loads(packed)
        return cls(algorithm.load(io.BytesIO(content), device="cpu"), make_env, noise, options)

    def unpacked(self, student: Student, interrupted: bool, content: bytes) -> tuple[Student, bool]:
        """A student from another process, in environments of its own."""
        teacher = self.model
        venv = student_environments(
            self.make_env,
            teacher.n_envs,
            self.options["vec_normalize"],
            student.history or self.options["frame_stack"],
        )
        model = type(teacher).load(io.BytesIO(content), env=venv, device=teacher.device)
        return dataclasses.replace(student, model=model), interrupted


def teach(
    model: BaseAlgorithm,
    env: EnvLike,
    orders: Sequence[Order],
    noise: Disturbance,
    options: dict[str, Any],
    n_workers: int,
    progress: bool,
    on_student: Callable[[Student], Any] | None = None,
) -> list[Student]:
    """The students in the order asked for; interrupted, those that there are.

    Args:
        noise: multiplied by an order's noise level.
        options: of :func:`lipsrl.distill`.
        on_student: called with each as soon as it is made.

    Raises:
        KeyboardInterrupt, EndlessEpisodeError: there is none yet.
        RuntimeError: a worker process died.
    """
    lesson = _Lesson(model, environment_factory(env)[0], noise, options)
    done: dict[Order, Student] = {}
    interrupted, reason = False, ""
    run = _here if n_workers == 1 else _in_workers
    with tqdm(total=len(orders), unit="student", disable=not progress, dynamic_ncols=True) as bar:
        try:
            for order, (student, cut_short) in run(lesson, orders, n_workers):
                done[order] = student
                if on_student is not None:
                    on_student(student)
                interrupted = interrupted or cut_short
                bar.set_postfix_str(order.name)
                bar.update()
        except (KeyboardInterrupt, EndlessEpisodeError) as error:
            if not done:
                raise
            interrupted, reason = True, f" {error}" if str(error) else ""
    if interrupted:
        warnings.warn(
            f"frontier was interrupted: {len(done)} of {len(orders)} students are there.{reason}",
            InterruptedWarning,
            stacklevel=3,
        )
    return [done[order] for order in orders if order in done]


_Result = tuple[Order, tuple[Student, bool]]


def _here(lesson: _Lesson, orders: Sequence[Order], _: int) -> Iterator[_Result]:
    for order in orders:
        student, interrupted = lesson.distil(order)
        yield order, (student, interrupted)
        if interrupted:
            return


def _in_workers(lesson: _Lesson, orders: Sequence[Order], n_workers: int) -> Iterator[_Result]:
    """As they end. Ctrl-C reaches the workers too: those that have a student by then hand it in.

    After an `EndlessEpisodeError` no lesson is begun, and those that run are waited for before it is raised.
    """
    with warnings.catch_warnings():
        # newer Pythons warn of forking beside threads; a worker runs torch on one thread, so it waits for none
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        pool = ProcessPoolExecutor(
            min(n_workers, len(orders)),
            mp_context=multiprocessing.get_context(start_method()),
            initializer=_begin,
            initargs=(lesson.packed(),),
        )
        futures = {pool.submit(_run, order): order for order in orders}
    try:
        waiting = set(futures)
        endless: EndlessEpisodeError | None = None
        while waiting:
            try:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                waiting = {future for future in waiting if not future.cancel()}
                continue
            for future in ended:
                try:
                    yield futures[future], lesson.unpacked(*future.result())
                except KeyboardInterrupt:
                    continue  # that worker had no student yet
                except EndlessEpisodeError as error:
                    endless = error
                    waiting = {future for future in waiting if not future.cancel()}
        if endless is not None:
            raise endless
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died without an error message: killed, out of memory, or a crash in the simulator. "
            "n_workers=1 needs less memory, and shows the crash."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# of a worker process
_lesson: _Lesson


def _begin(packed: bytes) -> None:
    global _lesson
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while it waits: the pool would break
    torch.set_num_threads(1)
    _lesson = _Lesson.of(packed)


def _run(order: Order) -> tuple[Student, bool, bytes]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        student, interrupted = _lesson.distil(order)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    file = io.BytesIO()
    student.model.save(file)
    return dataclasses.replace(student, model=None), interrupted, file.getvalue()  # type: ignore[arg-type]
