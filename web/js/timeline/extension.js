/** Puts a timeline into each node whose text is a schedule. */

import { app } from "/scripts/app.js";

import { Timeline } from "./timeline.js";

const NODES = {
  LoomPromptSchedule: { kind: "prompts", height: 150 },
  LoomValueSchedule: { kind: "values", height: 170 },
  LoomFrameValues: { kind: "values", height: 170, inside: true },
  LoomStepCurve: { kind: "steps", height: 150 },
};
const LOOK_EVERY = 150; // ms; values that come over links change without an event

const timelines = new Set();

app.registerExtension({
  name: "AnimateDiffLoom.Timeline",

  init() {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet" });
    style.href = new URL("timeline.css", import.meta.url).href;
    document.head.append(style);
    setInterval(() => timelines.forEach((timeline) => timeline.look()), LOOK_EVERY);
  },

  nodeCreated(node) {
    const settings = NODES[node.comfyClass];
    if (!settings) return;
    const timeline = new Timeline(node, settings);
    const { onAdded, onRemoved } = node;
    node.onAdded = function (...args) {
      timelines.add(timeline);
      return onAdded?.apply(this, args);
    };
    node.onRemoved = function (...args) {
      timelines.delete(timeline);
      return onRemoved?.apply(this, args);
    };
  },
});
