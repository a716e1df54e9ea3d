"""serve, up, worker, doctor: what runs, and whether it can."""

from typing import Annotated

import typer

from finetune.cli.output import out, out_json, paint, say
from finetune.cli.recipes import AsJson
from finetune.wiring import Desk

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Default: FT_PORT or 8765; 0 takes a free one.")]
Host = Annotated[str, typer.Option(help="Address to listen on; anything but loopback needs FT_API_KEY.")]
Parent = Annotated[int | None, typer.Option(hidden=True, help="End together with this process.")]


def serve(port: Port = None, host: Host = "127.0.0.1", parent: Parent = None) -> None:
    """Answer as the registered models, over OpenAI's protocol.

    Example: ft serve --port 8765
    """
    Desk(say=say).serve(host, port, parent)


def up(port: Port = None, host: Host = "127.0.0.1") -> None:
    """Run everything in the foreground.

    Workers, sweep and server. Ctrl-C stops all of it; trainings save their state.

    Example: ft up --port 8765
    """
    Desk(say=say).up(host, port)


def worker(
    queue: Annotated[str, typer.Option(help="remote, gpu or all.")] = "all",
) -> None:
    """Run workers in the foreground.

    The remote queue moves jobs along, the gpu queue trains on this machine.

    Example: ft worker --queue gpu
    """
    Desk(say=say).work(queue)


def doctor(as_json: AsJson = False) -> None:
    """Check this installation and say what to mend.

    Folders, database, queue, workers, training packages. Exits with 1 if one is broken.

    Example: ft doctor
    """
    checks = Desk().doctor()
    if as_json:
        out_json([vars(one) for one in checks])
    else:
        colours = {"ok": "green", "note": "yellow", "broken": "red"}
        for one in checks:
            out(f"{paint(one.verdict.ljust(6), colours[one.verdict])}  {one.name.ljust(10)}  {one.said}")
            if one.fix:
                out(f"{'':20}fix: {one.fix}")
    raise typer.Exit(int(any(one.verdict == "broken" for one in checks)))
