/** Shows what a run has to say to whoever started it, as toasts. The server sends it: loom.notice. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

import { nodesOf } from "./nodes.js";

const LIFE = { warn: 30000, info: 12000 }; // ms

/** Toasts by text: what the next run says again replaces them. */
const toasts = new Map();

function show({ node, severity, text }) {
  const { toast } = app.extensionManager;
  if (toasts.has(text)) toast.remove(toasts.get(text));
  const summary = nodesOf(node).at(-1)?.getTitle() ?? "AnimateDiff Loom";
  toasts.set(text, { severity, summary, detail: text, life: LIFE[severity] });
  toast.add(toasts.get(text));
}

app.registerExtension({
  name: "AnimateDiffLoom.Notices",

  setup() {
    api.addEventListener("loom.notice", ({ detail }) => show(detail));
  },
});
