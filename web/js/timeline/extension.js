/** Puts a timeline into each node whose text is a schedule. */

import { app } from "/scripts/app.js";

import { Timeline } from "./timeline.js";

const NODES = {
  LoomPromptSchedule: { kind: "prompts", height: 150 },
  LoomValueSchedule: { kind: "values", height: 170 },
  LoomFrameValues: { kind: "values", height: 170, inside: true },
  LoomStepCurve: { kind: "steps", height: 150 },
};
const ROOM = 130; // of a new node, for its text and its timeline
const LOOK_EVERY = 150; // ms; values that come over links change without an event

/** By element: a node may be a proxy of the one that was created. */
const timelines = new WeakMap();

app.registerExtension({
  name: "AnimateDiffLoom.Timeline",

  init() {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet" });
    style.href = new URL("timeline.css", import.meta.url).href;
    document.head.append(style);
    setInterval(() => {
      for (const { widgets } of app.canvas.graph?.nodes ?? []) timelines.get(widgets?.at(-1)?.element)?.look();
    }, LOOK_EVERY);
  },

  nodeCreated(node) {
    const settings = NODES[node.comfyClass];
    if (!settings) return;
    const timeline = new Timeline(node, settings);
    timelines.set(timeline.root, timeline);
    node.setSize([node.size[0], node.computeSize()[1] + ROOM]);
  },
});
