"""Which noise schedule an animated MODEL had, and where that MODEL comes from: nodes before it may have had no effect."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from . import rules
from .graph import MUTED, Graph, Node, NodeId, Output
from .motion_options import Settings

if TYPE_CHECKING:
    from .translate import Translation, Use


def beta_of(translation: Translation, apply: Node, uses: list[Use], found: Settings) -> str:
    """The other pack's name of an apply point's noise schedule: a key of ``rules.BETAS``."""
    settings = translation.old.node_at(apply, "sample_settings")
    schedule = None if settings is None else translation.old.node_at(settings, "sigma_schedule")
    if schedule is not None and schedule.type != "ADE_SigmaSchedule":
        found.lost.append("A noise schedule put together by several nodes has no counterpart; the motion model's own is used.")
        return rules.AUTOSELECT if uses else rules.USE_EXISTING
    name = translation.old.value(schedule or apply, "beta_schedule")
    name = rules.AUTOSELECT if name is None else name
    if isinstance(name, Output) or name not in rules.BETAS:
        found.lost.append(rules.UNKNOWN_BETA.format("of a link" if isinstance(name, Output) else name))
        return rules.AUTOSELECT if uses else rules.USE_EXISTING
    if name == rules.AUTOSELECT and not uses:
        return rules.USE_EXISTING
    if name == rules.AUTOSELECT and translation.family(uses[-1].loader).name == "AnimateLCM":
        return rules.LCM
    found.near += [rules.NEAR_BETAS[name]] if name in rules.NEAR_BETAS else []
    return str(name)


def model_source(translation: Translation, apply: Node, beta: str, found: Settings) -> Output | None:
    """Where the MODEL of an apply point comes from now.

    AnimateDiff-Evolved makes the noise schedule anew, from the checkpoint's own kind of prediction, unless it is told to keep
    it, and its motion models take the place of those that were there. What stood before and set either had no effect.
    """
    path, sets_schedule = [apply], beta != rules.USE_EXISTING
    for node in translation.old.chain(translation.old.node_at(apply, "model"), "model"):
        if node.type in rules.UNLOADS:
            break
        if node.type in rules.APPLY_POINTS:
            _pass_by_motion(translation, node, path, sets_schedule, found)
            break
        if sets_schedule and node.type.startswith("ModelSampling"):
            if not _pass_by_schedule(translation, node, path):
                return _undone(translation, apply, found)
            continue
        if sets_schedule and (schedule_of_checkpoint(translation, node) or "").startswith("lcm"):
            return _undone(translation, apply, found)
        path.append(node)
    return translation.new.nodes[apply.id].origin("model")


def schedule_of_checkpoint(translation: Translation, node: Node) -> str | None:
    """The noise schedule, by either pack's name, that a checkpoint's loader sets and anything samples with; None if none."""
    beta = node.values.get("beta_schedule", rules.USE_EXISTING)
    if node.type != rules.NOISE_SELECT or beta == rules.USE_EXISTING:
        return None
    reached = translation.old.model_reaches(Output(node.id, 0), lambda node: not _sets_schedule(translation, node))
    ends = (node for node, _ in reached if not _sets_schedule(translation, node) and _samples(translation, node))
    return rules.BETAS.get(beta, str(beta)) if any(ends) else None


def _sets_schedule(translation: Translation, node: Node) -> bool:
    if node.type.startswith("ModelSampling"):
        return True
    has_motion = node.type != rules.APPLY_EVOLVED or translation.old.node_at(node, "m_models") is not None
    unchanged = (rules.USE_EXISTING,) if has_motion else (rules.USE_EXISTING, rules.AUTOSELECT)
    return node.type in rules.APPLY_POINTS and node.values.get("beta_schedule") not in unchanged


def _samples(translation: Translation, node: Node) -> bool:
    """Whether a node may sample the MODEL that it is given: it is called so, or gives no MODEL that anything takes."""
    if "ampler" in node.type or "etailer" in node.type or node.type in rules.APPLY_POINTS:
        return True
    kinds = enumerate(node.outputs or ["MODEL"])
    return not any(translation.old.consumers(Output(node.id, slot)) for slot, kind in kinds if kind == "MODEL")


# --- passing by ---------------------------------------------------------------------------------------------------------


def _pass_by_schedule(translation: Translation, sampling: Node, path: list[Node]) -> bool:
    """Take a node that sets the noise schedule out of the way; False if other branches need what stands between."""
    new, origin, below = translation.new, Output(sampling.id, 0), path[-1].id
    if sampling.id not in new.nodes:  # another apply point did
        return True
    if not _is_alone(translation, path):
        return False
    source = new.nodes[sampling.id].origin("model")
    if _others(new, origin, below):
        new.nodes[below].connect("model", source)
    if not _others(new, origin, below):
        new.redirect(origin, source or origin)
        new.remove(new.nodes[sampling.id])
        note = "It had no effect: the node after it set the noise schedule anew."
        translation.report.add(translation.name(sampling.id), sampling.type, notes=[note])
    return True


def _others(graph: Graph, origin: Output, below: NodeId) -> bool:
    return any(taker.id != below for taker, _ in graph.fed_by(origin, MUTED))


def _pass_by_motion(translation: Translation, other: Node, path: list[Node], sets_schedule: bool, found: Settings) -> None:
    """Take the motion of an apply point before this one out of the way."""
    translation.apply(other)
    before = translation.animated.get(other.id)
    if before is None:  # links that run in a circle
        return
    if not _is_alone(translation, path) or not sets_schedule:
        found.near.append(f"Only the motion models of this node counted; now those of node {translation.name(other.id)} do, too.")
        return
    translation.new.nodes[path[-1].id].connect("model", before.model)


def _is_alone(translation: Translation, path: list[Node]) -> bool:
    """Whether each node of a path from an apply point up gives its MODEL to the next one only."""
    for after, node in pairwise(path):
        slots = [slot for slot, kind in enumerate(node.outputs) if kind == "MODEL"] or [0]
        if any(_others(translation.old, Output(node.id, slot), after.id) for slot in slots):
            return False
    return True


def _undone(translation: Translation, apply: Node, found: Settings) -> Output:
    """The MODEL with the checkpoint's own kind of prediction again, where others need the node that changed it."""
    inputs = {"model": translation.new.nodes[apply.id].origin("model"), "prediction": rules.AS_CHECKPOINT}
    found.notes.append("A node before this one sets the noise schedule for other branches. Here it had no effect, and has none.")
    return Output(translation.put("LoomNoiseSchedule", inputs, apply, may_replace=False).id, 0)
