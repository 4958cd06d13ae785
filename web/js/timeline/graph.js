/** What the graph around a node says before anything runs: values over links, frames, windows, motion models. */

import { api } from "/scripts/api.js";

const OFF = [2, 4]; // modes of muted and bypassed nodes
const RATES = ["fps", "frame_rate"];
const FRAMES = ["frames", "batch_size", "length"]; // of nodes that make a latent
const WINDOWS = {
  length: "context_length",
  overlap: "context_overlap",
  schedule: "context_schedule",
  stride: "context_stride",
  closedLoop: "closed_loop",
};

/** Trained frames by file name, as the server says; null until it has, and where it can't. */
const trainedFrames = new Map();

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

function inputOf(node, name) {
  return node.inputs?.find((input) => input.name === name);
}

/** The nodes whose inside a graph is. */
function hostsOf(graph) {
  const { rootGraph } = graph;
  return [rootGraph, ...rootGraph.subgraphs.values()].flatMap(({ nodes }) => nodes.filter((node) => node.subgraph === graph));
}

/** What an input's link begins at: a node, with a widget if it is one of a subgraph's own; null without a link. */
function sourceOf(node, input) {
  const { graph } = node;
  const link = graph?.getLink(input?.link);
  if (!link) return null;
  const origin = graph.getNodeById(link.origin_id);
  if (origin?.type === "Reroute") return sourceOf(origin, origin.inputs[0]) ?? {};
  if (origin) return { node: origin };
  const [host, ...others] = hostsOf(graph);
  const outer = host?.inputs[link.origin_slot];
  if (!outer || others.length) return {}; // several instances may have several values
  return sourceOf(host, outer) ?? { node: host, widget: widgetOf(host, outer.name) };
}

/**
 * An input's value, also where it comes over a link.
 * @returns {{isLinked: boolean, value: unknown}} undefined where only a run can tell
 */
export function valueOf(node, name) {
  const source = sourceOf(node, inputOf(node, name));
  if (!source) return { isLinked: false, value: widgetOf(node, name)?.value };
  const { node: origin, widget } = source;
  if (widget) return { isLinked: true, value: widget.value };
  if (origin?.type === "PrimitiveNode") return { isLinked: true, value: origin.widgets?.[0]?.value };
  return { isLinked: true, value: origin && widgetOf(origin, "value") ? valueOf(origin, "value").value : undefined };
}

/** The number of frames of a clip; undefined where only a run can tell. */
export function framesOf(node, around) {
  const latent = sourceOf(node, inputOf(node, "latent"));
  if (latent) return framesOfLatents(latent.node ? upstream([latent.node]) : []);
  const { value } = valueOf(node, "frames");
  return value === 0 ? framesOfLatents(around) : value;
}

function framesOfLatents(nodes) {
  const makers = nodes.filter(({ outputs }) => outputs?.some(({ type }) => type === "LATENT"));
  const counts = new Set(makers.map((node) => firstOf(node, FRAMES)).filter((count) => count > 0));
  return counts.size === 1 ? [...counts][0] : undefined;
}

/** The value of the first of these widgets that a node has. */
function firstOf(node, names) {
  const name = names.find((one) => widgetOf(node, one));
  return name && valueOf(node, name).value;
}

/** The nodes that a node's outputs lead to, and with them all that lead there. */
export function surroundings(node) {
  const after = reach([node], ({ outputs, graph }) => {
    const links = (outputs ?? []).flatMap((output) => output.links ?? []).map((id) => graph.getLink(id));
    return links.flatMap((link) => (link ? (graph.getNodeById(link.target_id) ?? hostsOf(graph)) : []));
  });
  return { after, around: upstream(after) };
}

function upstream(nodes) {
  return reach(nodes, (node) => (node.inputs ?? []).flatMap((input) => sourceOf(node, input)?.node ?? []));
}

function reach(nodes, next) {
  const seen = new Set();
  const waiting = [...nodes];
  for (let node; (node = waiting.pop()); ) {
    if (seen.has(node)) continue;
    seen.add(node);
    waiting.push(...next(node), ...(node.subgraph?.nodes ?? []));
  }
  return [...seen].filter(({ mode }) => !OFF.includes(mode));
}

/** The frame rate at which the clip is saved or shown. */
export function rateOf(nodes) {
  return nodes.map((node) => firstOf(node, RATES)).find((rate) => rate > 0);
}

/** How the clip is cut into windows, and on how many frames the motion model was trained, as far as the graph tells. */
export function motionOf(nodes, frames) {
  const ofType = (wanted) => nodes.filter(({ type }) => type === wanted);
  const known = ofType("LoomLoadMotionModel").map((node) => trainedFramesOf(valueOf(node, "motion_model_name").value));
  const trained = known.length && known.every(Boolean) ? Math.min(...known) : undefined;
  const read = (node) => Object.entries(WINDOWS).map(([key, name]) => [key, valueOf(node, name).value]);
  const [windows, ...others] = ofType("LoomContextWindows").map((node) => Object.fromEntries(read(node)));
  if (others.length) return { trained };
  // Without any, a run sets its own.
  const automatic = { length: trained, overlap: Math.floor(trained / 4), schedule: "standard_static" };
  return { trained, windows: windows ?? (trained < frames ? automatic : undefined) };
}

function trainedFramesOf(file) {
  if (!trainedFrames.has(file)) {
    trainedFrames.set(file, null);
    askTrainedFrames(file).catch(() => {}); // without an answer there is no mark
  }
  return trainedFrames.get(file);
}

async function askTrainedFrames(file) {
  const response = await api.fetchApi(`/loom/trained_frames?file=${encodeURIComponent(file)}`);
  if (response.ok) trainedFrames.set(file, (await response.json()).trained_frames);
}
