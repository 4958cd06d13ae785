"""Files made to do harm, from a seed: each loads or is refused in one short line that names it, soon, in little memory, and runs no code."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import folder_paths
import pytest
import torch
from pack.motion_models.config import Family
from pack.motion_models.errors import UserError, one_line
from pack.nodes.host.files import folders
from pack.nodes.host.files.loading import load_motion_model
from pack.nodes.inspecting import InspectFileNode
from pack.nodes.loaders import LoadDomainAdapterNode, LoadMotionLoraNode, LoadMotionModelNode
from safetensors.torch import load_file, save_file

from .world import SMALL_MOTION, SMALL_UNET, make_model, motion_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a file that hangs its loader can only be ended in a process of its own")

SEED = 13
CPU_SECONDS, MEGABYTES = 6, 1000
PART = "temporal_transformer.proj_in.weight"
KEY = f"down_blocks.0.motion_modules.0.{PART}"
LORA = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
Case = tuple[str, bytes | Callable[[Path], object]]


# --- making files by hand ----------------------------------------------------------------------------------------------


def safetensors(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def with_keys(*keys: str) -> bytes:
    return safetensors({key: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for key in keys})


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **records}.items():
            file.writestr(f"a/{name.replace('data_', 'data/')}", content)
    return buffer.getvalue()


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(module: str, name: str, argument: str) -> bytes:
    return f"c{module}\n{name}\n(".encode() + text(argument) + b"tR"


# --- kinds of harm -----------------------------------------------------------------------------------------------------


def damaged(good: list[Path], rng: random.Random) -> Iterator[Case]:
    for i in range(60):
        path = good[i % len(good)]
        data = bytearray(path.read_bytes())
        if i % 3 == 0:
            data = data[: rng.randrange(len(data))]
        else:
            end = min(len(data), 4000) if i % 3 == 1 else len(data)
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(end)] = rng.choice(b'"{}[]:,0123456789\\\x00\xff')
        yield f"{i}{path.suffix}", bytes(data)


def headers(good: list[Path], rng: random.Random) -> Iterator[Case]:
    odd = {
        "shape": ([], [0], [-1, 4], [2**63], [2**31, 2**31, 4], [1.5], ["4"], None, "4x4", [[4]], [1] * 5000, [0, 2**60], 10**400),
        "data_offsets": ([-8, 8], [8, 0], [0, 2**64 - 1], ["0", "8"], None, [0], 5, [0, "x"], [None, None], {}, [0, [1]]),
        "dtype": ("I8", "U16", "BOOL", "F4", "F8_E8M0", "C64", "f32", "", "X" * 1000, None, 5, ["F32"], "F64"),
    }
    safe = [path for path in good if path.suffix == ".safetensors"]
    for i in range(50):
        data = rng.choice(safe).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        name = rng.choice([name for name in header if name != "__metadata__"])
        field = rng.choice([*odd, "key", "entry", "metadata"])
        if field in odd:
            header[name][field] = rng.choice(odd[field])
        elif field == "key":
            header[rng.choice(("", "\n", "\x00", "\ud800", "%s{}", "." * 5000, "a" * 100_000, "../../x"))] = header.pop(name)
        elif field == "entry":
            header[name] = rng.choice((None, 1, "x", [], 1e308))
        else:
            header["__metadata__"] = rng.choice((None, 1, [], {"a": None}, {"a": {"b": "c"}}, {"k" * 9999: "\n" * 9999}))
        yield f"{i}.safetensors", safetensors(header, data[8 + length :])
    for i, length in enumerate((0, 1, 2**31, 2**63, 2**64 - 1, 99_999_999)):
        yield f"length-{i}.safetensors", safetensors({"a": 1}, length=length)
    for i, inner in enumerate((b"[" * 50_000, b"[],", b"1" * 5000, b"Infinity", b"NaN", b"1e400", b'"\\ud800"')):
        yield f"json-{i}.safetensors", safetensors(b'{"a":[' + inner + b"]}")


def names(good: list[Path], rng: random.Random) -> Iterator[Case]:
    for i, number in enumerate(("1000", "1000000000", "9" * 400, "٣", "-1")):
        yield f"level-{i}.safetensors", with_keys(KEY.replace("s.0", f"s.{number}", 1))
        yield f"layer-{i}.safetensors", with_keys(KEY.replace("modules.0", f"modules.{number}"))
    for i, unit in enumerate(("down_blocks.0.motion_modules.0.x", "a.lora.A.", "lora_down.", "1", "\n")):
        yield f"long-{i}.safetensors", with_keys(unit * (300_000 // len(unit)) + f"\n\nX{PART}lora_up")
    for i, key in enumerate((KEY, "motion_modules.lora_up.weight")):
        yield f"many-{i}.safetensors", with_keys(*(f"p{j}.{key}" for j in range(15_000)))
    yield "blank.safetensors", safetensors(b"{" + b" " * 20_000_000 + b"}")


def contents(good: list[Path], rng: random.Random) -> Iterator[Case]:
    for path in good[:3]:
        tensors = load_file(path)
        for dtype in (torch.int8, torch.bool, torch.int64, torch.complex64, torch.float8_e4m3fn, torch.float64):
            some = {key: tensor.to(dtype) for key, tensor in tensors.items() if rng.random() < 0.2}
            yield f"{path.stem}-{str(dtype)[6:]}.ckpt", saved({**tensors, **some})
        for i, odd in enumerate((torch.zeros(0), torch.zeros(()), torch.zeros(3, 0, 2), torch.zeros((1,) * 12), torch.full((32, 32), torch.nan))):
            yield f"{path.stem}-shape-{i}.ckpt", saved({**tensors, rng.choice(list(tensors)): odd})
    one = torch.zeros(1)
    for i, shapes in enumerate((
        {KEY: (10**7, 10**7)}, {f"{LORA}.down.weight": (10**8, 32), f"{LORA}.up.weight": (32, 10**8)},
        {KEY: (32, 32), KEY.replace("proj_in.weight", "transformer_blocks.0.attention_blocks.0.pos_encoder.pe"): (1, 10**9, 32)},
    )):  # fmt: skip
        yield f"expanded-{i}.ckpt", saved({key: one.expand(shape) for key, shape in shapes.items()})
    for i, odd in enumerate((torch.zeros(4, 4).to_sparse(), torch.zeros(4, 4, device="meta"), {7: one, None: one, (1,): one, b"x": one}, [one], one, 3, None)):
        yield f"odd-{i}.ckpt", saved({KEY: odd} if isinstance(odd, torch.Tensor) and odd is not one else odd)


def pickles(good: list[Path], rng: random.Random) -> Iterator[Case]:
    mark = good[0].parent / "executed"
    attacks = [call("os", "system", f"touch {mark}"), call("builtins", "eval", f"open({str(mark)!r}, 'w')"), call("torch", "load", "/etc/passwd")]
    attacks += [call("torch.storage", "_load_from_bytes", "x"), b"(" + text(f"touch {mark}") + b"ios\nsystem\n", b"\x82\x01", b"Pabc\n", b"\x8f"]
    for i, attack in enumerate(attacks):
        pickled = b"\x80\x02}(" + text("state_dict") + attack + text("epoch") + b"K\x01u."
        yield f"code-{i}.ckpt", pickled
        yield f"code-{i}.pth", archive(pickled)
    for i, pickled in enumerate((b"}q\x00" + text("state_dict") + b"h\x00s.", b"}q\x00" + text("x") + b"h\x00s.", b"]q\x00h\x00a.", b"N.", text("state_dict") + b".")):
        yield f"cycle-{i}.ckpt", archive(b"\x80\x02" + pickled)
    yield "deep.ckpt", archive(b"\x80\x02" + (b"}" + text("state_dict")) * 50_000 + b"}" + b"s" * 50_000 + b".")
    yield "zip-bomb.ckpt", archive(b"\x80\x02N.", zipfile.ZIP_DEFLATED, data_0=bytes(2**29))


def others(good: list[Path], rng: random.Random) -> Iterator[Case]:
    formats = (b"", b"\x80", b"Rar!\x1a\x07\x00" + bytes(100), b"<!DOCTYPE html>", b"a page of text\n" * 50, b"GGUF\x03" + bytes(500), b"\x89PNG\r\n" + bytes(500))
    formats += (b"{}", b"[1, 2]", b"\x1f\x8b\x08" + bytes(500), bytes(2**20), b"version https://git-lfs.github.com/spec/v1\n", b"PK\x05\x06" + bytes(18))
    for i, data in enumerate(formats):
        for suffix in (".safetensors", ".ckpt"):
            yield f"{i}{suffix}", data
    for suffix in (".safetensors", ".ckpt"):
        yield f"fifo{suffix}", os.mkfifo
        yield f"folder{suffix}", Path.mkdir
        for i, target in enumerate(("/dev/zero", "/proc/self/mem", "/nonexistent")):
            yield f"link-{i}{suffix}", lambda path, target=target: path.symlink_to(target)
    for stem in ("line\nbreak", "bell\x07", "%s {0}", "\u202ertl", "x" * 240, "モーション", os.fsdecode(b"caf\xe9")):
        yield f"{stem}.ckpt", b"<html>"
        yield f"{stem}.safetensors", good[0].read_bytes()


# --- each file in every loader -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    lora = {f"{LORA}.down.weight": torch.zeros(4, 32), f"{LORA}.up.weight": torch.zeros(32, 4)}
    adapter = {key.replace("motion_modules.0.temporal_transformer", "attentions.0"): tensor for key, tensor in lora.items()}
    for name, tensors in (("lora", lora), ("adapter", adapter)):
        save_file(tensors, folder / f"{name}.safetensors")
    motion = Path(motion_file(folder, Family.V1, dtype=torch.float16, **SMALL_MOTION))
    torch.save(load_file(motion), folder / "motion.ckpt")
    return [motion, folder / "lora.safetensors", folder / "adapter.safetensors", folder / "motion.ckpt"]


def outcomes(cases: list[tuple[str, str]], loaders: dict[str, Callable[[str], object]]) -> Iterator[dict]:
    """Open each file in a process of its own; whatever is missing ended that process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(write, "w") as results:
            for name, loader in cases:
                signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # ends the process unless it is set again in time
                try:
                    loaders[loader](name)
                    kind, said = "loaded", ""
                except UserError as error:
                    kind, said = "refused", str(error)
                except BaseException as error:  # noqa: BLE001
                    kind, said = "raw", f"{type(error).__name__}: {error}"
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(json.dumps({"kind": kind, "said": said, "memory": memory}), file=results, flush=True)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as results:
        yield from map(json.loads, results)
    os.waitpid(child, 0)


@pytest.mark.parametrize("kind", [damaged, headers, names, contents, pickles, others], ids=lambda kind: kind.__name__)
def test_hostile_files(kind, good, tmp_path, monkeypatch):
    for folder in (folders.MOTION_MODELS, folders.MOTION_LORAS, "loras", "vae"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path)], set(folder_paths.supported_pt_extensions)))
    model, motion_model = make_model(**SMALL_UNET), load_motion_model(str(good[0]))
    loaders = {
        "motion": lambda name: LoadMotionModelNode.execute(name),
        "lora": lambda name: LoadMotionLoraNode.execute(motion_model, name, 1.0),
        "adapter": lambda name: LoadDomainAdapterNode.execute(model, name, 1.0),
        "inspect": lambda name: InspectFileNode.execute(f"vae/{name}"),
    }
    files = []
    for name, content in kind(good, random.Random(SEED)):
        path = tmp_path / name
        content(path) if callable(content) else path.write_bytes(content)
        files.append(name)
    cases = [(name, loader) for name in files for loader in loaders]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results = list(outcomes(cases, loaders))
    if len(results) < len(cases):
        pytest.fail(f"{cases[len(results)]!a} took more than {CPU_SECONDS} s, or ended the process")
    wrong = []
    for (name, loader), result in zip(cases, results, strict=True):
        said = result["said"]
        is_sentence = said.isprintable() and len(said) < 400 and one_line(name)[:20] in said and loader != "inspect"
        if result["kind"] == "raw" or (result["kind"] == "refused" and (tmp_path / name).is_file() and not is_sentence):
            wrong.append(f"{name!a} in {loader}: {said[:300]}")
    assert wrong == []
    assert max(result["memory"] for result in results) - before < MEGABYTES
    assert not (good[0].parent / "executed").exists()
