/** What the graph around a node says before anything runs: values over links, frames, windows, motion models. */

import { answerOf } from "../server.js";

const OFF = [2, 4]; // modes of muted and bypassed nodes
const RATES = ["fps", "frame_rate"];
const USUAL_RATE = 8; // of AnimateDiff's own examples
const FRAMES = ["frames", "batch_size", "length"]; // of nodes that make a latent
const WINDOWS = ["context_length", "context_overlap", "context_schedule", "context_stride", "closed_loop"];

/** Surroundings by node: in a large graph they take some milliseconds to find. */
const found = new WeakMap();
const LONGEST = 500; // ms for which they are taken to be the same

/** One of a node's widgets or inputs. */
export const named = (name, parts) => parts?.find((part) => part.name === name);

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
  return sourceOf(host, outer) ?? { node: host, widget: named(outer.name, host.widgets) };
}

/**
 * An input's value, also where it comes over a link.
 * @returns {{isLinked: boolean, value: unknown}} undefined where only a run can tell
 */
export function inputValue(node, name) {
  const source = sourceOf(node, named(name, node.inputs));
  if (!source) return { isLinked: false, value: named(name, node.widgets)?.value };
  const { node: origin, widget } = source;
  if (widget) return { isLinked: true, value: widget.value };
  if (origin?.type === "PrimitiveNode") return { isLinked: true, value: origin.widgets?.[0]?.value };
  return { isLinked: true, value: origin && named("value", origin.widgets) ? inputValue(origin, "value").value : undefined };
}

export const valuesOf = (node, names) => Object.fromEntries(names.map((name) => [name, inputValue(node, name).value]));

/** The number of frames of a clip; undefined where only a run can tell. */
export function framesOf(node, around) {
  const latent = sourceOf(node, named("latent", node.inputs));
  if (latent) return framesOfLatents(latent.node ? upstream([latent.node]) : []);
  const { value } = inputValue(node, "frames");
  return value === 0 ? framesOfLatents(around) : value;
}

function framesOfLatents(nodes) {
  const makers = nodes.filter(({ outputs }) => outputs?.some(({ type }) => type === "LATENT"));
  const counts = new Set(makers.map((node) => firstOf(node, FRAMES)).filter((count) => count > 0));
  return counts.size === 1 ? [...counts][0] : undefined;
}

/** The value of the first of these widgets that a node has. */
function firstOf(node, names) {
  const name = names.find((one) => named(one, node.widgets));
  return name && inputValue(node, name).value;
}

/** The nodes that a node's outputs lead to, and with them all that lead there. */
export function surroundings(node) {
  const known = found.get(node);
  if (known && performance.now() - known.time < LONGEST) return known;
  const after = reach([node], ({ outputs, graph }) => {
    const links = (outputs ?? []).flatMap((output) => output.links ?? []).map((id) => graph.getLink(id));
    return links.flatMap((link) => (link ? (graph.getNodeById(link.target_id) ?? hostsOf(graph)) : []));
  });
  found.set(node, { after, around: upstream(after), time: performance.now() });
  return found.get(node);
}

const upstream = (nodes) => reach(nodes, (node) => (node.inputs ?? []).flatMap((input) => sourceOf(node, input)?.node ?? []));

function reach(nodes, next) {
  const seen = new Set(nodes);
  // Also of those that are added meanwhile.
  for (const node of seen) {
    for (const one of [...next(node), ...(node.subgraph?.nodes ?? [])]) seen.add(one);
  }
  return [...seen].filter(({ mode }) => !OFF.includes(mode));
}

/** The frames per second at which a clip is saved or shown. */
export function rateOf(nodes) {
  return nodes.map((node) => firstOf(node, RATES)).find((rate) => rate > 0) ?? USUAL_RATE;
}

/** How the clip is cut into windows, and on how many frames the motion model was trained, as far as the graph tells. */
export function motionOf(nodes, frames) {
  const ofType = (wanted) => nodes.filter(({ type }) => type === wanted);
  const files = ofType("LoomLoadMotionModel").map((node) => inputValue(node, "motion_model_name").value);
  const known = files.map((file) => answerOf(`/loom/trained_frames?file=${encodeURIComponent(file)}`)?.trained_frames);
  const trained = known.length && known.every(Boolean) ? Math.min(...known) : undefined;
  // Without a node for them, a run sets its own.
  const automatic = { context_length: trained, context_overlap: Math.floor(trained / 4), context_schedule: "standard_static" };
  const settings = ofType("LoomContextWindows").map((node) => valuesOf(node, WINDOWS));
  if (!settings.length && trained < frames) settings.push(automatic);
  const answer = settings.length === 1 && frames && answerOf("/loom/windows", { frames, ...settings[0] });
  return { trained, windows: answer?.windows ?? [] };
}
