"""The commands of ``loom.py``, up to where ComfyUI's own Python takes over."""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from .cache import cache_folder, remove_leftovers
from .comfyui import ComfyUI, find_comfyui, program_environment
from .demo_models import DemoModels, demo_models
from .demo_settings import DemoSettings
from .demo_workflow import DEMO_PACK, DEMO_PACK_NAME, TITLE, demo_url, put_into_side_bar
from .environment import NEEDED_TO_RUN, NEEDED_TO_TEST, find_python
from .errors import LoomError, os_error_text
from .pack import PACK_ROOT, RUN, programs
from .processes import clean_environment, replace_this_process
from .server import ComfyServer, claim_port

# What suits the demo world's models. They know no word of the example workflow's negative prompt.
_DEMO_SIZE, _DEMO_STEPS, _DEMO_CFG = 96, 20, 2.5
_DEMO_PROMPT, _DEMO_NEGATIVE = "a blue square moving down", ""
_MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")

# Without arguments: on all cores, as far as memory goes, with ruff and mypy beside the tests. One worker more than cores, for some
# wait for a server or a browser.
_WHOLE_SUITE = ["tests", "-n", str(min((os.cpu_count() or 1) + 1, 4)), "-p", "tests.style"]
# As `python -m pytest`, but until tests/conftest.py is read Ctrl-C ends it without a traceback.
_PYTEST = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); import pytest; raise SystemExit(pytest.main())"


def demo(args: argparse.Namespace) -> None:
    started = time.monotonic()
    own_models = _own_models(args)
    _check_before_set_up(args)
    comfyui, python = set_up(args)
    models = own_models or demo_models(comfyui, python)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    settings = DemoSettings(
        comfyui=str(comfyui.path),
        python=str(python),
        checkpoint=str(models.checkpoint),
        motion_model=str(models.motion_model),
        output=str(args.out),
        seed=seed,
        frames=args.frames,
        prompt=args.prompt if args.prompt is not None or own_models else _DEMO_PROMPT,
        negative=None if own_models else _DEMO_NEGATIVE,
        steps=args.steps or (None if own_models else _DEMO_STEPS),
        cfg=None if own_models else _DEMO_CFG,
        size=args.size or (None if own_models else _DEMO_SIZE),
        port=args.port,
        is_demo_world=own_models is None,
        setup_seconds=time.monotonic() - started,
    )
    print(f"{_describe(comfyui)}, {args.frames} frames, seed {seed}.")
    replace_this_process([python, RUN, "launcher.demo", settings.to_json()], clean_environment())


def _check_before_set_up(args: argparse.Namespace) -> None:
    """Find what would otherwise fail after minutes of set-up and rendering."""
    if args.port:
        claim_port(args.port)
    place = next(path for path in (args.out, *args.out.parents) if os.path.exists(path))
    if not os.path.isdir(place):
        raise LoomError(f"'{place}' (--out) is not a folder.")
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise LoomError(f"'{args.out}' (--out) can't be written: {error.strerror}.") from error


def set_up(args: argparse.Namespace, needed: Iterable[str] = NEEDED_TO_RUN) -> tuple[ComfyUI, Path]:
    remove_leftovers()
    comfyui = find_comfyui(args.comfyui)
    return comfyui, find_python(comfyui, args.python, needed)


def _own_models(args: argparse.Namespace) -> DemoModels | None:
    if args.checkpoint is None and args.motion_model is None:
        return None
    if args.checkpoint is None or args.motion_model is None:
        raise LoomError("Give --checkpoint and --motion-model together: the demo's own models fit only each other.")
    for kind, path in (("checkpoint", args.checkpoint), ("motion model", args.motion_model)):
        if not path.is_file():
            raise LoomError(f"There is no {kind} file '{path}'.")
    return DemoModels(args.checkpoint, args.motion_model)


def train(args: argparse.Namespace) -> None:
    if not args.config.is_file():
        raise LoomError(f"There is no configuration '{args.config}'.")
    needed = NEEDED_TO_RUN if args.processes == 1 else (*NEEDED_TO_RUN, "accelerate")
    comfyui, python = set_up(args, needed)
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", args.processes]
    command = [python, *(several if args.processes > 1 else []), RUN, "launcher.train", args.config]
    print(f"{_describe(comfyui)}, training with '{args.config}'.", flush=True)
    replace_this_process(command, program_environment(comfyui.path))


def render(args: argparse.Namespace) -> None:
    if not args.job.is_file():
        raise LoomError(f"There is no job '{args.job}'.")
    comfyui, python = set_up(args)
    print(f"{_describe(comfyui)}, rendering '{args.job}'.", flush=True)
    replace_this_process([python, RUN, "launcher.render", args.job], program_environment(comfyui.path))


def run(args: argparse.Namespace) -> None:
    if args.module not in (known := programs()):
        raise LoomError(f"There is no program '{args.module}'. There are: {', '.join(known)}.")
    comfyui, python = set_up(args)
    replace_this_process([python, RUN, args.module, *args.module_arguments], program_environment(comfyui.path))


def test(args: argparse.Namespace) -> None:
    comfyui, python = set_up(args, NEEDED_TO_TEST)
    words = args.pytest_arguments or _WHOLE_SUITE
    named = any(word.startswith("tests") for word in words)
    words = [*([] if named else ["tests"]), *words]
    print(f"{_describe(comfyui)}: {python} -m pytest {' '.join(words)}")
    command = [python, "-c", _PYTEST, *words]
    replace_this_process(command, clean_environment(COMFYUI_PATH=str(comfyui.path)), PACK_ROOT)


def serve(args: argparse.Namespace) -> None:
    _check_before_set_up(args)
    comfyui, python = set_up(args)
    folders, has_demo = _served_models(comfyui, python)
    args.out.mkdir(parents=True, exist_ok=True)
    user = _user_folder(args.out)
    in_side_bar = has_demo and put_into_side_bar(user)
    # Kept, unlike the rest: what is rendered, and the workflows and settings of the editor.
    keep = ["--output-directory", str(args.out), "--user-directory", str(user)]
    packs = {DEMO_PACK_NAME: DEMO_PACK} if has_demo else {}
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(
        comfyui.path, python, more_packs=packs, model_folders=folders, port=args.port, extra_args=keep
    ) as server:
        url = demo_url(server.url) if has_demo else server.url
        print(f"{_describe(comfyui)} with AnimateDiff Loom: {url}")
        if has_demo:
            also = f" It is '{TITLE}' under Workflows, too." if in_side_bar else ""
            print(f"This opens a workflow that runs with the demo's tiny models.{also}")
        print(f"Images go to '{args.out}'. Ctrl-C stops it.", flush=True)
        server.wait()


def _served_models(comfyui: ComfyUI, python: Path) -> tuple[dict[str, list[Path]], bool]:
    """Folders of model files by kind, and whether the demo's are among them: where the user's ComfyUI lacks a kind."""
    own = comfyui.model_folders() if comfyui.is_users_own else {}
    if all(_has_files(own.get(kind, ())) for kind in ("checkpoints", "animatediff_models")):
        return own, False
    demo = demo_models(comfyui, python).model_folders()
    return {kind: [*own.get(kind, ()), *demo.get(kind, ())] for kind in {**own, **demo}}, True


def _has_files(folders: Iterable[Path]) -> bool:
    return any(path.suffix in _MODEL_SUFFIXES for folder in folders for path in folder.rglob("*"))


def _user_folder(out: Path) -> Path:
    """Where the editor's workflows and settings are kept: in the cache, or with the images where that can't be written."""
    folder = cache_folder() / "user"
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        print(f"{os_error_text(error)}: workflows and settings are kept in '{out / 'user'}' instead.")
        folder = out / "user"
        folder.mkdir(exist_ok=True)
    return folder


def _describe(comfyui: ComfyUI) -> str:
    where = f" in '{comfyui.path}'" if comfyui.is_users_own else ""
    return f"ComfyUI {comfyui.version} ({comfyui.origin.value}{where})"
