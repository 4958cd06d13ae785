/** Shows what a run has to say to whoever started it, as toasts. The server sends it: loom.notice. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

import { nodesOf } from "./nodes.js";

const LIFE = { warn: 30000, info: 12000 }; // ms

/** Toasts by text: what the next run says again replaces them. */
const toasts = new Map();

function show({ node, severity, text }) {
  const { toast } = app.extensionManager;
  const summary = nodesOf(node).at(-1)?.getTitle() ?? "AnimateDiff Loom";
  const [last, life] = [toasts.get(text), LIFE[severity]];
  if (toast.dismiss) {
    // Frontend 1.58 knows toasts by their ids.
    const add = severity === "warn" ? toast.warning : toast.info;
    toasts.set(text, add(summary, { id: last, description: text, duration: life }));
    return;
  }
  if (last) toast.remove(last);
  toasts.set(text, { severity, summary, detail: text, life });
  toast.add(toasts.get(text));
}

app.registerExtension({
  name: "AnimateDiffLoom.Notices",

  setup() {
    api.addEventListener("loom.notice", ({ detail }) => show(detail));
  },
});
