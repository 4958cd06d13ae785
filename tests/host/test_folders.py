"""The lists of files that nodes offer, with as many files as users have."""

from __future__ import annotations

import builtins
import io as python_io
import os

import folder_paths
import pytest
from pack.nodes.host.files import file_reports as inspecting
from pack.nodes.host.files import folders as folders
from pack.nodes.inspecting import InspectFileNode
from pack.nodes.loaders import LoadDomainAdapterNode, LoadMotionLoraNode, LoadMotionModelNode

COUNT = 200
NODES = {
    # node: (its input, the folder whose files it offers, how it names one of them)
    LoadMotionModelNode: ("motion_model_name", folders.MOTION_MODELS, "{}"),
    LoadMotionLoraNode: ("motion_lora_name", folders.MOTION_LORAS, "{}"),
    LoadDomainAdapterNode: ("lora_name", "loras", "{}"),
    InspectFileNode: ("file", folders.MOTION_MODELS, folders.MOTION_MODELS + "/{}"),
}


@pytest.fixture
def many_files(tmp_path, monkeypatch):
    """Model folders of this test's own, with many files, some of them in folders within folders, and other things beside."""
    known = {name: ([], set(folder_paths.supported_pt_extensions)) for name in folder_paths.folder_names_and_paths}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    for name in (folders.MOTION_MODELS, folders.MOTION_LORAS, "loras"):
        folder = tmp_path / name
        (folder / "camera" / "pans").mkdir(parents=True)
        known[name][0].append(str(folder))
        for i in range(COUNT):
            place = (folder, folder / "camera", folder / "camera" / "pans")[i % 3]
            (place / f"{name}_{i:03}{('.safetensors', '.ckpt')[i % 2]}").write_bytes(b"not looked at")
        (folder / "notes.txt").write_text("no weights")
        (folder / "preview.png").write_bytes(b"")
    return tmp_path


def offered(node) -> list[str]:
    wanted, _, _ = NODES[node]
    return next(part.options for part in node.define_schema().inputs if part.id == wanted)


def never(*args, **kwargs):
    raise AssertionError("a file was opened, or a folder searched again")


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_all_are_offered_in_order(many_files, node):
    _, folder, shown = NODES[node]
    files = [path for path in (many_files / folder).rglob("*") if path.suffix in (".safetensors", ".ckpt")]
    expected = sorted(os.path.relpath(path, many_files / folder) for path in files)
    names = offered(node)
    assert len(expected) == COUNT
    assert names[:COUNT] == [shown.format(name) for name in expected]
    assert len(set(names)) == len(names)
    assert offered(node) == names


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_listing_opens_no_file_and_searches_once(many_files, node, monkeypatch):
    """The editor asks for every node's lists at each start and each press of R."""
    monkeypatch.setattr(builtins, "open", never)
    monkeypatch.setattr(python_io, "open", never)
    names = offered(node)
    monkeypatch.setattr(folder_paths, "recursive_search", never)
    assert offered(node) == names


@pytest.mark.parametrize("place", ["", "camera/pans"])
def test_a_new_file_and_a_deleted_one_are_seen(many_files, place):
    before = folders.MOTION_MODEL_FILES.names()
    folder = many_files / folders.MOTION_MODELS / place
    path = folder / "new.safetensors"
    path.write_bytes(b"")
    # Where a file system's clock is coarse, both may fall into one tick.
    os.utime(folder, (1, 1))
    name = os.path.join(place, "new.safetensors") if place else "new.safetensors"
    assert set(folders.MOTION_MODEL_FILES.names()) - set(before) == {name}
    assert inspecting.file_path(f"{folders.MOTION_MODELS}/{name}") == folders.MOTION_MODEL_FILES.path(name) == str(path)
    path.unlink()
    os.utime(folder, (2, 2))
    assert folders.MOTION_MODEL_FILES.names() == before


def test_a_domain_adapter_beside_the_motion_loras_is_offered_once(many_files):
    for name in ("loras", folders.MOTION_LORAS):
        (many_files / name / "v3_sd15_adapter.ckpt").write_bytes(b"")
    names = folders.DOMAIN_ADAPTER_FILES.names()
    assert names.count("v3_sd15_adapter.ckpt") == 1
    assert folders.DOMAIN_ADAPTER_FILES.path("v3_sd15_adapter.ckpt") == str(many_files / "loras" / "v3_sd15_adapter.ckpt")
    assert len(names) == 2 * COUNT + 1
