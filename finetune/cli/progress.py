"""How a job is shown while it goes: a moving bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any, Protocol

from finetune.cli.output import paint
from finetune.jobs import Event, Job, Json
from finetune.service import Update

#: In a pipe, a progress line at most every so many percent.
_EVERY_PERCENT = 10


class Display(Protocol):
    """Shows updates."""

    def show(self, update: Update) -> None:
        """Show what is new."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


def follow(updates: Iterable[Update], display: Display) -> Job | None:
    """Show all updates; the job as last seen, None if there was none. KeyboardInterrupt leaves a clean terminal."""
    job = None
    try:
        for update in updates:
            job = update.job
            display.show(update)
    finally:
        display.close()
    return job


def display(*, to_stderr: bool) -> Display:
    """The display for this terminal or pipe. `watch` is data and goes to stdout, `submit --follow` chats on stderr."""
    stream = sys.stderr if to_stderr else sys.stdout
    return _Bar(stream) if stream.isatty() else _Lines(stream)


def event_line(event: Event) -> str:
    """`12:03:04 state  running: submitted`."""
    colour = {"warning": "yellow", "error": "red"}.get(event.kind)
    text = f"{event.at.astimezone():%H:%M:%S} {event.message}"
    return paint(text, colour) if colour else text


def steps_text(progress: Json) -> str:
    """`40/120`, or `40` where the provider does not tell of how many."""
    return f"{progress['step']}/{progress['total_steps']}" if progress.get("total_steps") else f"{progress['step']}"


def progress_text(progress: Json) -> str:
    """`step 40/120 · loss 0.83 · 5,120 tokens/s · 0:12 left`, as far as it is known."""
    parts = [f"step {steps_text(progress)}"]
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4g}")
    if progress.get("tokens_per_s") is not None:
        parts.append(f"{progress['tokens_per_s']:,.0f} tokens/s")
    if progress.get("eta_s") is not None:
        parts.append(f"{minutes(progress['eta_s'])} left")
    return " · ".join(parts)


def minutes(seconds: float) -> str:
    """`12:05`."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02}"


class _Lines:
    """Plain lines: events, and a progress line now and then."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._shown = -_EVERY_PERCENT

    def show(self, update: Update) -> None:
        for event in update.events:
            self._stream.write(event_line(event) + "\n")
        if update.waits_for:
            self._stream.write(f"waits for {update.waits_for}\n")
        progress = update.job.progress
        if progress:
            # Without a total each step counts as a percent.
            percent = int(100 * progress["step"] / (progress.get("total_steps") or 100))
            if percent >= self._shown + _EVERY_PERCENT:
                self._shown = percent - percent % _EVERY_PERCENT
                self._stream.write(progress_text(progress) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class _Bar:
    """Events scroll above one moving bar."""

    def __init__(self, stream: Any) -> None:
        from rich.console import Console  # only on a terminal; a pipe does not pay for it
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
        )
        self._progress = Progress(*columns, console=Console(file=stream, highlight=False), transient=True)
        self._task = self._progress.add_task("waiting", total=None, text="")
        self._progress.start()

    def show(self, update: Update) -> None:
        for event in update.events:
            self._progress.console.print(event_line(event), markup=False, highlight=False)
        job, progress = update.job, update.job.progress
        words = (
            f"{job.state}" if job.provider_state in (None, str(job.state)) else f"{job.state} ({job.provider_state})"
        )
        fields: dict[str, Any] = {"description": f"waits for {update.waits_for}" if update.waits_for else words}
        if progress:
            text = progress_text(progress)
            fields |= {"completed": progress["step"], "total": progress.get("total_steps"), "text": text}
        self._progress.update(self._task, **fields)

    def close(self) -> None:
        self._progress.stop()
