"""Small workflows in the editor's form, written as they come to mind: nodes by name, links by name."""

from __future__ import annotations

from typing import Any

SOCKETS = {
    # type: its sockets with their types, its outputs
    "CheckpointLoaderSimple": ({}, ["MODEL", "CLIP", "VAE"]),
    "CheckpointLoaderSimpleWithNoiseSelect": ({}, ["MODEL", "CLIP", "VAE"]),
    "EmptyLatentImage": ({}, ["LATENT"]),
    "ModelSamplingDiscrete": ({"model": "MODEL"}, ["MODEL"]),
    "FreeU_V2": ({"model": "MODEL"}, ["MODEL"]),
    "KSampler": ({"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent_image": "LATENT"}, ["LATENT"]),
    "PrimitiveFloat": ({}, ["FLOAT"]),
    "PrimitiveInt": ({}, ["INT"]),
    "LoadImageMask": ({}, ["MASK"]),
    "VAEEncode": ({"pixels": "IMAGE", "vae": "VAE"}, ["LATENT"]),
    "Reroute": ({"": "*"}, ["*"]),
    "SetNode": ({"value": "*"}, ["*"]),
    "GetNode": ({}, ["*"]),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, ["IMAGE"]),
    "ADE_AnimateDiffLoaderWithContext": (
        {"model": "MODEL", "context_options": "CONTEXT_OPTIONS", "motion_lora": "MOTION_LORA", "ad_settings": "AD_SETTINGS",
         "sample_settings": "SAMPLE_SETTINGS", "ad_keyframes": "AD_KEYFRAMES"}, ["MODEL"],
    ),
    "ADE_AnimateDiffLoaderGen1": (
        {"model": "MODEL", "context_options": "CONTEXT_OPTIONS", "motion_lora": "MOTION_LORA", "ad_settings": "AD_SETTINGS",
         "sample_settings": "SAMPLE_SETTINGS", "scale_multival": "MULTIVAL", "effect_multival": "MULTIVAL"}, ["MODEL"],
    ),
    "ADE_UseEvolvedSampling": (
        {"model": "MODEL", "m_models": "M_MODELS", "context_options": "CONTEXT_OPTIONS", "sample_settings": "SAMPLE_SETTINGS"},
        ["MODEL"],
    ),
    "ADE_ApplyAnimateDiffModel": (
        {"motion_model": "MOTION_MODEL_ADE", "motion_lora": "MOTION_LORA", "scale_multival": "MULTIVAL",
         "effect_multival": "MULTIVAL", "ad_keyframes": "AD_KEYFRAMES", "prev_m_models": "M_MODELS"}, ["M_MODELS"],
    ),
    "LoadImage": ({}, ["IMAGE", "MASK"]),
    "ADE_ApplyAnimateDiffModelWithPIA": (
        {"motion_model": "MOTION_MODEL_ADE", "image": "IMAGE", "vae": "VAE", "pia_input": "PIA_INPUT", "motion_lora": "MOTION_LORA",
         "scale_multival": "MULTIVAL", "effect_multival": "MULTIVAL", "ad_keyframes": "AD_KEYFRAMES", "prev_m_models": "M_MODELS"},
        ["M_MODELS"],
    ),
    "ADE_InputPIA_Multival": ({"multival": "MULTIVAL"}, ["PIA_INPUT"]),
    "ADE_InputPIA_PaperPresets": ({"mult_multival": "MULTIVAL"}, ["PIA_INPUT"]),
    "ADE_PIA_AnimateDiffKeyframe": (
        {"prev_ad_keyframes": "AD_KEYFRAMES", "scale_multival": "MULTIVAL", "pia_input": "PIA_INPUT"}, ["AD_KEYFRAMES"],
    ),
    "ACN_SparseCtrlLoaderAdvanced": ({"sparse_method": "SPARSE_METHOD"}, ["CONTROL_NET"]),
    "ADE_LoadAnimateDiffModel": ({"ad_settings": "AD_SETTINGS"}, ["MOTION_MODEL_ADE"]),
    "ADE_LoadAnimateLCMI2VModel": ({"ad_settings": "AD_SETTINGS"}, ["MOTION_MODEL_ADE", "MOTION_MODEL_ADE"]),
    "ADE_InjectPIAIntoAnimateDiffModel": ({"motion_model": "MOTION_MODEL_ADE", "ad_settings": "AD_SETTINGS"}, ["MOTION_MODEL_ADE"]),
    "ADE_InjectI2VIntoAnimateDiffModel": ({"motion_model": "MOTION_MODEL_ADE", "ad_settings": "AD_SETTINGS"}, ["MOTION_MODEL_ADE"]),
    "ADE_ApplyAnimateLCMI2VModel": (
        {"motion_model": "MOTION_MODEL_ADE", "ref_latent": "LATENT", "motion_lora": "MOTION_LORA", "effect_multival": "MULTIVAL",
         "ad_keyframes": "AD_KEYFRAMES", "prev_m_models": "M_MODELS"}, ["M_MODELS"],
    ),
    "ADE_AnimateDiffLoRALoader": ({"prev_motion_lora": "MOTION_LORA"}, ["MOTION_LORA"]),
    "ADE_MultivalDynamic": ({"mask_optional": "MASK"}, ["MULTIVAL"]),
    "ADE_AnimateDiffKeyframe": (
        {"prev_ad_keyframes": "AD_KEYFRAMES", "scale_multival": "MULTIVAL", "effect_multival": "MULTIVAL"}, ["AD_KEYFRAMES"],
    ),
    "ADE_AnimateDiffUniformContextOptions": ({"prev_context": "CONTEXT_OPTIONS", "view_opts": "VIEW_OPTS"}, ["CONTEXT_OPTIONS"]),
    "ADE_StandardStaticContextOptions": ({"prev_context": "CONTEXT_OPTIONS", "view_opts": "VIEW_OPTS"}, ["CONTEXT_OPTIONS"]),
    "ADE_StandardStaticViewOptions": ({}, ["VIEW_OPTS"]),
    "ADE_AnimateDiffSamplingSettings": (
        {"iteration_opts": "ITERATION_OPTS", "seed_override": "INT", "custom_cfg": "CUSTOM_CFG", "sigma_schedule": "SIGMA_SCHEDULE"},
        ["SAMPLE_SETTINGS"],
    ),
    "ADE_IterationOptsFreeInit": ({}, ["ITERATION_OPTS"]),
    "ADE_CustomCFGSimple": ({}, ["CUSTOM_CFG"]),
    "ADE_SigmaSchedule": ({}, ["SIGMA_SCHEDULE"]),
    "ADE_AnimateDiffSettings": ({"pe_adjust": "PE_ADJUST", "weight_adjust": "WEIGHT_ADJUST"}, ["AD_SETTINGS"]),
    **{f"ADE_AdjustPE{kind}": ({}, ["PE_ADJUST"]) for kind in ("SweetspotStretch", "FullStretch", "Manual")},
    "ADE_AnimateDiffModelSettingsSimple": ({"mask_motion_scale": "MASK"}, ["AD_SETTINGS"]),
    "Frames": ({}, ["INT"]),
    "ADE_AdjustWeightAllMult": ({"prev_weight_adjust": "WEIGHT_ADJUST"}, ["WEIGHT_ADJUST"]),
    **{f"ADE_PromptScheduling{end}": (
        {"clip": "CLIP", **({"latent": "LATENT"} if end else {}), "prepend_text": "STRING", "append_text": "STRING",
         "values_replace": "VALUES_REPLACE"}, ["CONDITIONING", *(["LATENT"] if end else [])],
    ) for end in ("", "Latents")},
    **{f"ADE_ValueScheduling{end}": ({"latent": "LATENT"} if end else {}, ["FLOAT", "FLOATS", "INT", "INTS"]) for end in ("", "Latents")},
    "ADE_FloatToFloats": ({"FLOAT": "FLOAT"}, ["FLOATS"]),
    "ADE_MultivalDynamicFloats": ({"floats": "FLOATS", "mask_optional": "MASK"}, ["MULTIVAL"]),
    "PrimitiveString": ({}, ["STRING"]),
    "CreateHookKeyframesFromFloats": ({"floats_strength": "FLOATS"}, ["HOOK_KEYFRAMES"]),
    "NumbersOfAnotherPack": ({"float": "FLOAT", "int": "INT"}, []),
    "ADE_UpscaleAndVAEEncode": ({"image": "IMAGE", "vae": "VAE", "latent_size": "LATENT"}, ["LATENT"]),
    "ADE_AnimateDiffUnload": ({"model": "MODEL"}, ["MODEL"]),
    "ADE_EmptyLatentImageLarge": ({}, ["LATENT"]),
    "ADE_AnimateDiffCombine": ({"images": "IMAGE"}, ["GIF"]),
    "AnimateDiffCombine": ({"images": "IMAGE"}, []),
    "AnimateDiffModuleLoader": ({"lora_stack": "MOTION_LORA_STACK"}, ["MOTION_MODULE"]),
    "AnimateDiffLoraLoader": ({"lora_stack": "MOTION_LORA_STACK"}, ["MOTION_LORA_STACK"]),
    "AnimateDiffSampler": (
        {"motion_module": "MOTION_MODULE", "model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING",
         "latent_image": "LATENT", "sliding_window_opts": "SLIDING_WINDOW_OPTS"}, ["LATENT"],
    ),
}  # fmt: skip


class Workflow:
    """A workflow that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def add(self, type: str, values: list[Any] | None = None, mode: int = 0, **links: int | tuple[int, int]) -> int:
        """Add a node; ``links`` name its inputs and the nodes, or the nodes and outputs, that feed them."""
        sockets, outputs = SOCKETS[type]
        number = len(self.nodes) + 1
        inputs: list[dict[str, Any]] = [{"name": name, "type": kind, "link": None} for name, kind in sockets.items()]
        for name, origin in links.items():
            if name not in sockets:  # a widget that was turned into an input
                inputs.append({"name": name, "type": "FLOAT", "link": None, "widget": {"name": name}})
            node, slot = origin if isinstance(origin, tuple) else (origin, 0)
            place = next(i for i, entry in enumerate(inputs) if entry["name"] == name or not entry["name"])
            inputs[place]["link"] = len(self.links) + 1
            source = self.nodes[node - 1]["outputs"][slot]
            source["links"].append(len(self.links) + 1)
            self.links.append([len(self.links) + 1, node, slot, number, place, source["type"]])
        self.nodes.append({
            "id": number, "type": type, "pos": [number * 350, 0], "size": [300, 200], "flags": {}, "order": number, "mode": mode,
            "inputs": inputs, "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
            "properties": {}, "widgets_values": values or [],
        })  # fmt: skip
        return number

    def link(self, origin: int, target: int, name: str) -> None:
        """Link the first output of a node to an input of another, whichever came first."""
        place = next(i for i, entry in enumerate(self.nodes[target - 1]["inputs"]) if entry["name"] == name)
        number, output = len(self.links) + 1, self.nodes[origin - 1]["outputs"][0]
        self.nodes[target - 1]["inputs"][place]["link"] = number
        output["links"].append(number)
        self.links.append([number, origin, 0, target, place, output["type"]])

    @property
    def json(self) -> dict[str, Any]:
        return {
            "last_node_id": len(self.nodes), "last_link_id": len(self.links), "nodes": self.nodes, "links": self.links, "groups": [],
            "config": {}, "extra": {"ds": {"scale": 1}}, "version": 0.4,
        }  # fmt: skip


def node_of(workflow: dict[str, Any], type: str) -> dict[str, Any]:
    """The one node of a type."""
    (found,) = nodes_of(workflow, type)
    return found


def nodes_of(workflow: dict[str, Any], type: str) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] == type]


def fed_by(workflow: dict[str, Any], node: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The node that feeds an input."""
    link = next(entry["link"] for entry in node["inputs"] if entry["name"] == name)
    origin = next((entry[1] for entry in workflow["links"] if entry[0] == link), None)
    return next((entry for entry in workflow["nodes"] if entry["id"] == origin), None)


def wrong_links(workflow: dict[str, Any]) -> list[str]:
    """What does not fit together: links without ends, ends without links, ids given twice."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    wrong = [] if len(nodes) == len(workflow["nodes"]) and len(links) == len(workflow["links"]) else ["an id is given twice"]
    for link_id, origin, slot, target, place, _ in workflow["links"]:
        if origin not in nodes or link_id not in (nodes[origin]["outputs"][slot]["links"] or []):
            wrong.append(f"link {link_id} does not begin at node {origin}")
        if target not in nodes or nodes[target]["inputs"][place]["link"] != link_id:
            wrong.append(f"link {link_id} does not end at node {target}")
    for node in workflow["nodes"]:
        ends = [entry["link"] for entry in node["inputs"]] + [link for output in node["outputs"] for link in output["links"] or []]
        wrong += [f"node {node['id']} names link {link}, which isn't there" for link in ends if link is not None and link not in links]
    return wrong
