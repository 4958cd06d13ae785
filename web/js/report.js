/** Shows the texts of nodes that report something in the nodes themselves: the editor shows their pictures only. */

import { app } from "/scripts/app.js";

import { addElement, replaceStale } from "./nodes.js";

const NODES = ["LoomPlan", "LoomInspectFile", "LoomAnimationMetrics"];
const SAVED = "report"; // the property of a node that keeps its text in a saved workflow
const WIDTH = 420;
const HEIGHT = 140;
// Nodes 2.0 would leave the box one line where a picture stands below it.
const STYLE = `
  width: 100%; height: 100%; min-height: ${HEIGHT - 20}px; box-sizing: border-box; padding: 6px 10px; resize: none;
  border-radius: 8px; background: var(--component-node-widget-background, var(--comfy-input-bg));
  font: 12px/1.45 sans-serif; white-space: pre-wrap;`;

/** Text boxes by node. */
const boxes = new WeakMap();

function makeBox(node) {
  const box = document.createElement("textarea");
  box.readOnly = true;
  box.className = "comfy-multiline-input";
  box.placeholder = "The report is shown here after a run.";
  box.style.cssText = STYLE;
  addElement(node, "report", box, { getMinHeight: () => HEIGHT, getValue: () => box.value });
  boxes.set(node, box);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, WIDTH), height]);
}

app.registerExtension({
  name: "AnimateDiffLoom.Report",

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    makeBox(node);
    const { onExecuted } = node;
    node.onExecuted = function (output, ...more) {
      onExecuted?.call(this, output, ...more);
      if (!output?.text) return;
      node.properties[SAVED] = [output.text].flat().join("\n");
      boxes.get(node).value = node.properties[SAVED];
    };
  },

  loadedGraphNode(node) {
    const box = boxes.get(node);
    if (!box) return;
    box.value = node.properties[SAVED] ?? "";
    setTimeout(() => replaceStale(node, "report", box), 300);
  },
});
