"""The numbers of each step are read and reported only once the next step has begun."""

import time
from collections.abc import Callable

from ..errors import TrainError
from ..step import NotFinite, StepResult
from .report import TrainingReport


class LateReport:
    """Reports each step one step late, so that the device has work while the host waits for the numbers.

    Args:
        report: where the steps are reported.
        lr: learning rate, for the report.
        processes: how many processes take part in a step.
        kept: says which checkpoint there is to go back to, for an error message.
    """

    def __init__(self, report: TrainingReport, lr: float, processes: int, kept: Callable[[], str]):
        self.report, self.lr, self.processes, self.kept = report, lr, processes, kept
        self.waiting: tuple[int, StepResult, list[str]] | None = None
        self.restart()

    def restart(self) -> None:
        """Restart the clock: the time since the last step belongs to no step."""
        self.clock = time.perf_counter()

    def step(self, step: int, result: StepResult, names: list[str]) -> None:
        """Take the result of a step, and report the step before it. Raises TrainError where that was not finite."""
        before, self.waiting = self.waiting, (step, result, names)
        self._tell(before)

    def flush(self) -> None:
        """Report the step that waits. Raises TrainError where it was not finite: call it before anything is saved."""
        before, self.waiting = self.waiting, None
        self._tell(before)

    def _tell(self, waiting: tuple[int, StepResult, list[str]] | None) -> None:
        if waiting is None:
            return
        step, result, names = waiting
        try:
            result.read()
        except NotFinite as error:
            raise TrainError(
                f"step {step} ({', '.join(names)}): {error}; training has stopped, {self.kept()}; "
                "try a smaller --lr, or look at the photograph"
            ) from None
        now = time.perf_counter()
        self.report.step(step, result, now - self.clock, len(names) * self.processes, self.lr)
        self.clock = now
