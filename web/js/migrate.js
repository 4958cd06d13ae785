/**
 * Offers to translate workflows made for AnimateDiff-Evolved or ArtVentureX's AnimateDiff when one is opened whose nodes
 * are missing. The server does the work: POST /loom/migrate.
 */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

const THEIRS = /^ADE_|^AnimateDiff|^CheckpointLoaderSimpleWithNoiseSelect$/;

/** Graphs that were asked about, by id: undo, redo and tab switches load a graph again. */
const asked = new Set();

/** The graph that is being loaded, as it was saved. */
let loading = null;

function typeOf(missing) {
  return typeof missing === "string" ? missing : missing.type;
}

/**
 * Translates a workflow, of the editor's form or the API's.
 * @param {object} workflow
 * @returns {Promise<{workflow: object, summary: string, word: string}>}
 */
export async function translate(workflow) {
  const response = await api.fetchApi("/loom/migrate?note=1", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(workflow),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "AnimateDiff Loom", detail, life: severity === "error" ? undefined : 12000 });
}

async function offer(saved) {
  const wanted = await app.extensionManager.dialog.confirm({
    title: "AnimateDiff Loom",
    message: "This workflow was made for AnimateDiff-Evolved. Open it with Loom's nodes?",
  });
  if (!wanted) return;
  try {
    const { workflow, summary, word } = await translate(saved);
    const active = app.extensionManager.workflow.activeWorkflow;
    // The graph as it was becomes a step of undo; loading it once more tells the editor which nodes are still missing.
    app.rootGraph.configure(structuredClone(workflow));
    active?.changeTracker?.captureCanvasState?.();
    await app.loadGraphData(workflow, false, false, active);
    say(word === "lost" ? "warn" : "success", `Translated: ${summary}. The note beside the graph says what changes; undo brings the old graph back.`);
  } catch (error) {
    say("error", `The workflow could not be translated. ${error.message}`);
  }
}

app.registerExtension({
  name: "AnimateDiffLoom.Migrate",

  beforeConfigureGraph(graph) {
    loading = structuredClone(graph);
  },

  afterConfigureGraph(missing) {
    const saved = loading;
    loading = null;
    if (!saved?.nodes || !missing?.some((entry) => THEIRS.test(typeOf(entry)))) return;
    const id = app.rootGraph.id;
    if (asked.has(id)) return;
    asked.add(id);
    saved.id ??= id;
    // Once the editor is done with loading.
    setTimeout(() => offer(saved), 0);
  },
});
