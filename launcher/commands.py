"""The commands of ``loom.py``, up to where ComfyUI's own Python takes over."""

from __future__ import annotations

import argparse
import os
import random
import time

from .cache import cache_folder
from .comfyui import ComfyUI, environment_beside, find_comfyui
from .demo_models import DemoModels, demo_models
from .demo_settings import DemoSettings
from .environment import NEEDED_TO_RUN, NEEDED_TO_TEST, find_python
from .errors import LoomError
from .pack import PACK_ROOT
from .processes import clean_environment, replace_this_process
from .server import ComfyServer, claim_port

# What suits the demo world's models. Of the example workflow's negative prompt they know no word.
_DEMO_SIZE, _DEMO_STEPS, _DEMO_CFG = 96, 20, 2.5
_DEMO_PROMPT, _DEMO_NEGATIVE = "a blue square moving down", ""

# Without arguments: on all cores, as far as memory goes, with ruff and mypy beside the tests.
_WHOLE_SUITE = ["tests", "-n", str(min(os.cpu_count() or 1, 4)), "-p", "tests.style"]


def demo(args: argparse.Namespace) -> None:
    started = time.monotonic()
    own_models = _own_models(args)
    if args.port:
        claim_port(args.port)  # before minutes of set-up
    comfyui = find_comfyui(args.comfyui)
    python = find_python(comfyui, args.python)
    models = own_models or demo_models(comfyui, python)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    settings = DemoSettings(
        comfyui=str(comfyui.path),
        python=str(python),
        checkpoint=str(models.checkpoint),
        motion_model=str(models.motion_model),
        output=str(args.out.absolute()),
        seed=seed,
        frames=args.frames,
        prompt=args.prompt or (None if own_models else _DEMO_PROMPT),
        negative=None if own_models else _DEMO_NEGATIVE,
        steps=args.steps or (None if own_models else _DEMO_STEPS),
        cfg=None if own_models else _DEMO_CFG,
        size=args.size or (None if own_models else _DEMO_SIZE),
        port=args.port,
        is_demo_world=own_models is None,
        setup_seconds=time.monotonic() - started,
    )
    print(f"{_describe(comfyui)}, {args.frames} frames, seed {seed}.")
    replace_this_process(
        [python, "-m", "launcher.demo", settings.to_json()],
        # Modules come from the pack, not from whatever lies in the user's current folder.
        clean_environment(PYTHONPATH=str(PACK_ROOT), PYTHONSAFEPATH="1"),
    )


def _own_models(args: argparse.Namespace) -> DemoModels | None:
    if args.checkpoint is None and args.motion_model is None:
        return None
    if args.checkpoint is None or args.motion_model is None:
        raise LoomError(
            "--checkpoint and --motion-model belong together: the demo's own models fit only each "
            "other."
        )
    for kind, path in (("checkpoint", args.checkpoint), ("motion model", args.motion_model)):
        if not path.is_file():
            raise LoomError(f"There is no {kind} file '{path}'.")
    return DemoModels(args.checkpoint.absolute(), args.motion_model.absolute())


def train(args: argparse.Namespace) -> None:
    if not args.config.is_file():
        raise LoomError(f"There is no configuration '{args.config}'.")
    comfyui = find_comfyui(args.comfyui)
    needed = NEEDED_TO_RUN if args.processes == 1 else (*NEEDED_TO_RUN, "accelerate")
    python = find_python(comfyui, args.python, needed)
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", args.processes]
    command = [python, *(several if args.processes > 1 else [])]
    command += ["-m", "launcher.run", "launcher.train", args.config.absolute()]
    print(f"{_describe(comfyui)}, training as '{args.config}' says.", flush=True)
    replace_this_process(command, environment_beside(comfyui.path))


def run(args: argparse.Namespace) -> None:
    comfyui = find_comfyui(args.comfyui)
    python = find_python(comfyui, args.python)
    command = [python, "-m", "launcher.run", args.module, *args.module_arguments]
    replace_this_process(command, environment_beside(comfyui.path))


def test(args: argparse.Namespace) -> None:
    comfyui = find_comfyui(args.comfyui)
    python = find_python(comfyui, args.python, NEEDED_TO_TEST)
    words = args.pytest_arguments or _WHOLE_SUITE
    named = any(word.startswith("tests") for word in words)
    command = [python, "-m", "pytest", *([] if named else ["tests"]), *words]
    print(f"{_describe(comfyui)}: {' '.join(map(str, command))}")
    replace_this_process(command, clean_environment(COMFYUI_PATH=str(comfyui.path)), PACK_ROOT)


def serve(args: argparse.Namespace) -> None:
    if args.port:
        claim_port(args.port)
    comfyui = find_comfyui(args.comfyui)
    python = find_python(comfyui, args.python)
    if comfyui.is_users_own:
        folders = comfyui.model_folders()
    else:
        folders = demo_models(comfyui, python).model_folders()
    output = args.out.absolute()
    output.mkdir(parents=True, exist_ok=True)
    user = cache_folder() / "user"
    user.mkdir(exist_ok=True)
    # Kept, unlike the rest: what is rendered, and the workflows and settings of the editor.
    keep = ["--output-directory", str(output), "--user-directory", str(user)]
    print("Starting ComfyUI ...", flush=True)
    with ComfyServer(
        comfyui.path, python, model_folders=folders, port=args.port, extra_args=keep
    ) as server:
        print(f"{_describe(comfyui)} with AnimateDiff Loom: {server.url}")
        print(f"Images go to '{output}'. Ctrl-C ends it.", flush=True)
        server.wait()


def _describe(comfyui: ComfyUI) -> str:
    where = f" in '{comfyui.path}'" if comfyui.is_users_own else ""
    return f"ComfyUI {comfyui.version} ({comfyui.origin.value}{where})"
