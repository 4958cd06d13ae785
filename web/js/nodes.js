/** Nodes of the graph that is open, and what is shown in them. */

import { app } from "/scripts/app.js";

/** Nodes that stand for one of a prompt: first the subgraph nodes around it, from the outside, then itself. */
export function nodesOf(executionId) {
  const nodes = [];
  let graph = app.rootGraph;
  for (const id of String(executionId).split(":")) {
    const node = graph?.nodes.find((candidate) => String(candidate.id) === id);
    if (!node) break;
    nodes.push(node);
    graph = node.subgraph;
  }
  return nodes;
}

/** Shows an element as a node's last widget, which is neither in the prompt nor in the workflow. */
export function addElement(node, name, element, options) {
  element.classList.add(`loom-${name}`);
  element.dataset.captureWheel = "true"; // the editor leaves the wheel to it while it has the focus
  const widget = node.addDOMWidget(name, `loom_${name}`, element, { serialize: false, hideOnZoom: false, ...options });
  widget.serialize = false;
  return widget;
}

/** After undo, Nodes 2.0 goes on to show the element of the node that was there before, which must not take its place back. */
export function replaceStale(node, name, element) {
  if (element.isConnected || !app.canvas.graph?.getNodeById(node.id)?.widgets?.some((part) => part.element === element)) return;
  document.querySelector(`[data-node-id="${node.id}"] .loom-${name}`)?.replaceWith(element);
}
