/** Nodes of the graph that is open. */

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
