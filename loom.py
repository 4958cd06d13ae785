#!/usr/bin/env python3
"""Try AnimateDiff Loom: ``python3 loom.py demo``, ``render``, ``train``, ``migrate``, ``api``, ``test`` or ``serve``; see ``--help``."""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - nobody has checked before this line
    sys.exit(f"loom: Python 3.10 or newer is needed, this is {sys.version.split()[0]}.")

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main: Ctrl-C ends this without a traceback

import argparse
from collections.abc import Callable
from pathlib import Path

from launcher import commands
from launcher.api import api
from launcher.errors import LoomError, exit_code
from launcher.migrate import migrate
from launcher.paths import absolute
from launcher.processes import exit_on_signals, open_standard_streams

_EPILOG = """
The first run sets up what is missing, in your cache folder or the folder named by LOOM_CACHE: a Python environment with
PyTorch (about 7 GB), unless your ComfyUI's own Python has everything, and a copy of ComfyUI 0.30.0, unless it finds yours:
named by --comfyui or COMFYUI_PATH, the one this pack is installed in, or ~/comfy/ComfyUI. Nothing is written into your ComfyUI.
"""


def whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    parse.__name__ = "whole number"
    return parse


def not_empty(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text


def path(text: str) -> Path:
    try:
        return absolute(not_empty(text))
    except LoomError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        description="Try AnimateDiff Loom without installing it.", epilog=_EPILOG
    )
    subparsers = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_options, text in (
        ("demo", _add_demo_options, "render an animation; save it and three of its frames"),
        ("render", _add_render_options, "render a video of any length, described by a TOML file; goes on where it was stopped"),
        ("train", _add_train_options, "train a motion model on your clips, configured by a TOML file"),
        ("test", _add_test_options, "run the test suite; all other arguments are passed to pytest"),
        ("serve", _add_serve_options, "start ComfyUI with this pack; Ctrl-C stops it"),
        ("api", _add_api_options, "print an example workflow in the form that ComfyUI's HTTP API runs"),
        ("run", _add_run_options, "run one of this repository's programs, such as demo.claims"),
    ):
        # No abbreviations: `test` passes what it doesn't know to pytest, such as --co.
        command = subparsers.add_parser(
            name, help=text, description=text, epilog=_EPILOG, allow_abbrev=False
        )
        command.add_argument("--comfyui", type=not_empty, metavar="PATH", help="the ComfyUI to use, or 'cached' for the copy")
        command.add_argument("--python", type=not_empty, metavar="PATH", help="the Python to run it with")
        add_options(command)
    _add_migrate(subparsers)
    return main


def _add_migrate(subparsers: argparse._SubParsersAction) -> None:
    text = "translate workflows made for AnimateDiff-Evolved or ArtVentureX into Loom's nodes"
    command = subparsers.add_parser(
        "migrate",
        help=text,
        description=f"{text.capitalize()}, and say for each node what becomes of it: the same, nearly the same, or lost. "
        "Exit status 0: all the same; 3: some near; 4: some lost; 1: an error.",
        allow_abbrev=False,
    )
    command.add_argument(
        "files", nargs="+", type=path, metavar="FILE", help="a .json workflow, or a PNG, WEBP or MP4 that holds one"
    )
    command.add_argument("--out", type=path, metavar="DIR", help="write the translated workflows there")
    command.add_argument("--counts", action="store_true", help="only count what becomes of all of them, as tables in Markdown")
    command.set_defaults(run=migrate)


def _add_demo_options(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--prompt", metavar="TEXT", help="what to show")
    demo.add_argument("--frames", type=whole_number(1, 1024), default=16, help="number of frames (16)")
    demo.add_argument("--size", type=whole_number(64, 4096), help="width and height in pixels")
    demo.add_argument("--seed", type=whole_number(0, 2**64 - 1), help="noise seed (random)")
    demo.add_argument("--steps", type=whole_number(1, 1000), help="sampling steps")
    demo.add_argument("--checkpoint", type=path, metavar="FILE", help="an SD1.5 checkpoint")
    demo.add_argument("--motion-model", type=path, metavar="FILE", help="a motion model for it")
    _add_out_and_port(demo)
    demo.set_defaults(run=commands.demo)


def _add_train_options(train: argparse.ArgumentParser) -> None:
    train.add_argument("config", type=path, metavar="CONFIG.toml", help="the configuration, see docs/training.md")
    train.add_argument(
        "--processes", type=whole_number(1, 1024), default=1, metavar="N",
        help="number of processes, one per graphics card (1)",
    )
    train.set_defaults(run=commands.train)


def _add_render_options(render: argparse.ArgumentParser) -> None:
    render.add_argument("job", type=path, metavar="JOB.toml", help="what to render, see docs/rendering.md")
    render.set_defaults(run=commands.render)


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("module", help="its name, such as demo.claims")
    # Not left to argparse: --help after the module's name is for the module.
    run.add_argument("module_arguments", nargs=argparse.REMAINDER, help="passed to it")
    run.set_defaults(run=commands.run)


def _add_test_options(test: argparse.ArgumentParser) -> None:
    test.set_defaults(run=commands.test)


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    _add_out_and_port(serve)
    serve.set_defaults(run=commands.serve)


def _add_api_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("workflow", type=not_empty, metavar="NAME", help="an example, such as 'Text to Animation', or a workflow's file")
    command.add_argument("--url", type=not_empty, help="a running ComfyUI with this pack, to ask what its nodes take (one is started)")
    command.set_defaults(run=api)


def _add_out_and_port(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=path, default="output", metavar="DIR", help="output folder (output)"
    )
    command.add_argument("--port", type=whole_number(1, 65535), help="port for ComfyUI (any free one)")


def main() -> int:
    open_standard_streams()
    command_line = parser()
    args, unknown = command_line.parse_known_args()
    if args.command == "test":
        args.pytest_arguments = unknown
    elif unknown:
        command_line.error(f"unrecognized arguments: {' '.join(unknown)}")
    exit_on_signals()
    return exit_code(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
