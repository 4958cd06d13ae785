"""From the editor's workflows to API prompts, and what the demo fills into them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from launcher import demo
from launcher.demo_settings import DemoSettings
from launcher.errors import LoomError
from launcher.progress_bar import ProgressBar
from launcher.workflow import to_prompt
from PIL import Image


def schema(required: dict[str, list], optional: dict[str, list] | None = None) -> dict[str, Any]:
    return {"input": {"required": required, "optional": optional or {}}, "display_name": "A title"}


OBJECT_INFO = {
    "Load": schema({"name": ["COMBO", {"options": ["a.safetensors", "b.safetensors"]}]}),
    "Text": schema({"text": ["STRING", {"multiline": True}], "clip": ["CLIP"]}),
    "Sample": schema(
        {
            "model": ["MODEL"],
            "seed": ["INT", {"default": 0}],
            "steps": ["INT", {"default": 20}],
            "sampler_name": [["euler", "ddim"]],
            "positive": ["CONDITIONING"],
        },
        {"strength": ["FLOAT", {"default": 1.0}], "mask": ["MASK"]},
    ),
    "Save": schema(
        {"images": ["IMAGE"], "frames": ["INT", {"forceInput": True}], "fps": ["FLOAT"]}
    ),
    "Video": schema(
        {
            "codec": [
                "COMFY_DYNAMICCOMBO_V3",
                {
                    "options": [
                        {"key": "auto", "inputs": {"required": {}}},
                        {"key": "h264", "inputs": {"required": {"crf": ["INT", {"default": 23}]}}},
                    ]
                },
            ],
            "fps": ["FLOAT", {"default": 8.0}],
        }
    ),
}


def node(number: int, kind: str, values: Any = (), inputs: Any = (), **more: Any) -> dict[str, Any]:
    """A node as the editor saves it; inputs are (name, type, link[, widget])."""
    names = ("name", "type", "link", "widget")
    slots = [dict(zip(names, slot, strict=False)) for slot in inputs]
    return {"id": number, "type": kind, "widgets_values": values, "inputs": slots, **more}


def convert(*nodes: dict[str, Any], links: Any = ()) -> dict[str, Any]:
    return to_prompt({"nodes": list(nodes), "links": list(links)}, OBJECT_INFO)


def inputs_of(*nodes: dict[str, Any], links: Any = ()) -> dict[str, Any]:
    """The converted inputs of the last node."""
    return convert(*nodes, links=links)[str(nodes[-1]["id"])]["inputs"]


class TestWidgets:
    def test_values_go_to_widgets_in_the_order_of_the_schema(self):
        values = [7, "randomize", 12, "ddim", 0.5]
        assert inputs_of(node(1, "Sample", values)) == {
            "seed": 7,
            "steps": 12,
            "sampler_name": "ddim",
            "strength": 0.5,
        }

    def test_seed_without_a_control_after_it(self):
        assert inputs_of(node(1, "Sample", [7, 12, "ddim"]))["steps"] == 12

    def test_values_missing_at_the_end_get_their_defaults(self):
        assert inputs_of(node(1, "Sample", [7, "fixed"])) == {
            "seed": 7,
            "steps": 20,
            "sampler_name": "euler",
            "strength": 1.0,
        }

    def test_first_option_is_the_default_of_a_combo(self):
        assert inputs_of(node(1, "Load")) == {"name": "a.safetensors"}

    def test_forced_inputs_have_no_value(self):
        assert inputs_of(node(1, "Save", [8.0])) == {"fps": 8.0}

    def test_values_by_name(self):
        assert inputs_of(node(1, "Load", {"name": "b", "shown": True})) == {"name": "b"}

    def test_lists_are_marked_as_values(self):
        assert inputs_of(node(1, "Load", [["a", "b"]])) == {"name": {"__value__": ["a", "b"]}}

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (["auto", 6.0], {"codec": "auto", "fps": 6.0}),
            (["h264", 30, 6.0], {"codec": "h264", "codec.crf": 30, "fps": 6.0}),
            ([], {"codec": "auto", "fps": 8.0}),
        ],
    )
    def test_dynamic_combo(self, values, expected):
        assert inputs_of(node(1, "Video", values)) == expected


class TestLinks:
    LOAD = node(1, "Load", ["b.safetensors"])

    def test_link(self):
        text = node(2, "Text", ["a cat"], [("clip", "CLIP", 5)])
        links = [[5, 1, 1, 2, 0, "CLIP"]]
        assert convert(self.LOAD, text, links=links) == {
            "1": {
                "class_type": "Load",
                "inputs": {"name": "b.safetensors"},
                "_meta": {"title": "A title"},
            },
            "2": {
                "class_type": "Text",
                "inputs": {"text": "a cat", "clip": ["1", 1]},
                "_meta": {"title": "A title"},
            },
        }

    def test_links_as_objects(self):
        link = {"id": 5, "origin_id": 1, "origin_slot": 1, "target_id": 2, "target_slot": 0}
        text = node(2, "Text", ["a cat"], [("clip", "CLIP", 5)])
        assert inputs_of(self.LOAD, text, links=[link])["clip"] == ["1", 1]

    def test_linked_widget_keeps_its_place_in_the_list(self):
        slot = ("steps", "INT", 5, {"name": "steps"})
        sample = node(2, "Sample", [7, "fixed", 99, "ddim"], [slot])
        inputs = inputs_of(self.LOAD, sample, links=[[5, 1, 0, 2, 0, "INT"]])
        assert inputs["steps"] == ["1", 0]
        assert inputs["sampler_name"] == "ddim"

    def test_widgets_without_a_link_have_slots_too(self):
        slot = ("text", "STRING", None, {"name": "text"})
        assert inputs_of(node(1, "Text", ["a cat"], [slot])) == {"text": "a cat"}

    def test_reroutes_are_passed_through(self):
        first = node(2, "Reroute", [], [("", "*", 5)])
        second = node(3, "Reroute", [], [("", "*", 6)])
        text = node(4, "Text", ["a cat"], [("clip", "CLIP", 7)])
        links = [[5, 1, 1, 2, 0, "*"], [6, 2, 0, 3, 0, "*"], [7, 3, 0, 4, 0, "*"]]
        assert inputs_of(self.LOAD, first, second, text, links=links)["clip"] == ["1", 1]
        assert set(convert(self.LOAD, first, second, text, links=links)) == {"1", "4"}

    def test_primitive_gives_its_value(self):
        primitive = node(1, "PrimitiveNode", [33, "fixed"])
        sample = node(2, "Sample", [7, "fixed", 99], [("steps", "INT", 5, {"name": "steps"})])
        assert inputs_of(primitive, sample, links=[[5, 1, 0, 2, 0, "INT"]])["steps"] == 33

    def test_notes_are_left_out(self):
        assert set(convert(self.LOAD, node(2, "Note", ["x"]), node(3, "MarkdownNote"))) == {"1"}

    def test_muted_node(self):
        muted = node(1, "Load", ["b"], mode=2)
        text = node(2, "Text", ["a cat"], [("clip", "CLIP", 5)])
        links = [[5, 1, 1, 2, 0, "CLIP"]]
        assert set(convert(muted, text, links=links)) == {"2"}
        assert inputs_of(muted, text, links=links) == {"text": "a cat"}

    def test_bypassed_node_passes_on_an_input_of_the_same_type(self):
        slots = [("image", "IMAGE", None), ("clip", "CLIP", 5)]
        bypassed = node(2, "Unknown", [], slots, mode=4, outputs=[{"type": "CLIP"}])
        text = node(3, "Text", ["a cat"], [("clip", "CLIP", 6)])
        links = [[5, 1, 1, 2, 1, "CLIP"], [6, 2, 0, 3, 0, "CLIP"]]
        assert inputs_of(self.LOAD, bypassed, text, links=links)["clip"] == ["1", 1]

    def test_bypassed_node_without_such_an_input(self):
        bypassed = node(2, "Unknown", [], [], mode=4, outputs=[{"type": "CLIP"}])
        text = node(3, "Text", ["a cat"], [("clip", "CLIP", 6)])
        assert "clip" not in inputs_of(bypassed, text, links=[[6, 2, 0, 3, 0, "CLIP"]])


class TestErrors:
    def test_unknown_node(self):
        with pytest.raises(LoomError, match="doesn't know: 'LoomFancy'"):
            convert(node(1, "LoomFancy"))

    def test_subgraph(self):
        workflow = {"nodes": [node(4, "a-b-c")], "definitions": {"subgraphs": [{"id": "a-b-c"}]}}
        with pytest.raises(LoomError, match="Node 4 is a subgraph"):
            to_prompt(workflow, OBJECT_INFO)

    def test_not_a_workflow(self):
        with pytest.raises(LoomError, match="not a workflow"):
            to_prompt({"1": {"class_type": "Load"}}, OBJECT_INFO)


class TestDemo:
    SETTINGS = DemoSettings(
        comfyui="/comfyui",
        python="/python",
        checkpoint="/models/some.safetensors",
        motion_model="/models/v3.ckpt",
        output="/out",
        seed=2**63,
        frames=24,
        prompt="a red circle",
        steps=3,
        size=64,
    )

    @pytest.fixture
    def prompt(self) -> dict[str, Any]:
        classes = {
            "1": ("CheckpointLoaderSimple", {"ckpt_name": "x"}),
            "2": ("LoomLoadMotionModel", {"motion_model_name": "x"}),
            "3": ("CLIPTextEncode", {"text": "positive"}),
            "4": ("CLIPTextEncode", {"text": "negative"}),
            "5": ("LoomEmptyAnimationLatent", {"width": 512, "height": 512, "frames": 16}),
            "6": ("LoomSampler", {"seed": 0, "steps": 20, "positive": ["3", 0]}),
        }
        return {
            key: {"class_type": name, "inputs": values} for key, (name, values) in classes.items()
        }

    def test_settings_survive_the_way_to_the_other_python(self):
        assert DemoSettings.from_json(self.SETTINGS.to_json()) == self.SETTINGS

    def test_fill_in(self, prompt):
        demo.fill_in(prompt, self.SETTINGS)
        assert prompt["1"]["inputs"] == {"ckpt_name": "some.safetensors"}
        assert prompt["2"]["inputs"] == {"motion_model_name": "v3.ckpt"}
        assert prompt["3"]["inputs"] == {"text": "a red circle"}
        assert prompt["4"]["inputs"] == {"text": "negative"}
        assert prompt["5"]["inputs"] == {"width": 64, "height": 64, "frames": 24}
        assert prompt["6"]["inputs"] == {"seed": 2**63, "steps": 3, "positive": ["3", 0]}

    def test_shared_noise_stands_before_the_sampler(self, prompt):
        prompt["6"]["inputs"]["model"] = ["2", 0]
        demo.share_noise(prompt)
        assert prompt["7"]["class_type"] == "LoomSharedNoise"
        assert prompt["7"]["inputs"] == {"model": ["2", 0], "cutoff": 0.1}
        assert prompt["6"]["inputs"]["model"] == ["7", 0]

    def test_a_node_is_missing(self, prompt):
        del prompt["5"]
        with pytest.raises(LoomError, match="0 nodes LoomEmptyAnimationLatent"):
            demo.fill_in(prompt, self.SETTINGS)

    def test_saves_the_animation_and_three_frames(self, tmp_path):
        frames = [Image.new("RGB", (8, 8), (40 * number, 0, 0)) for number in range(5)]
        buffer = io.BytesIO()
        frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
        demo.save(buffer.getvalue(), tmp_path)
        names = [path.name for path in demo.save(buffer.getvalue(), tmp_path)]
        assert names == [
            "animation_0002.webp",
            "animation_0002_frame_01.png",
            "animation_0002_frame_03.png",
            "animation_0002_frame_05.png",
        ]
        with Image.open(tmp_path / names[2]) as image:
            assert image.getpixel((0, 0)) == (80, 0, 0)


class TestProgressBar:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    def test_terminal_shows_one_line(self):
        terminal = self.Terminal()
        bar = ProgressBar(terminal, width=4)
        bar.show("Sampling", 1, 4)
        assert terminal.getvalue().rstrip() == "\r  █░░░ Sampling 1/4"
        bar.show("Decoding", 0, 1)
        bar.clear()
        assert "\n" not in terminal.getvalue()
        assert terminal.getvalue().endswith(" \r")

    def test_log_gets_a_line_for_each_node(self):
        log = io.StringIO()
        bar = ProgressBar(log)
        for value in range(3):
            bar.show("Sampling", value, 3)
        bar.clear()
        assert log.getvalue() == "  Sampling\n"
