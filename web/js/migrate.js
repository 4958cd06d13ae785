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
 * @param {string | File} workflow JSON, or a picture or video that holds it
 * @returns {Promise<{workflow: object, summary: string, word: string}>}
 */
async function translate(workflow) {
  const response = await api.fetchApi("/loom/migrate?note=1", { method: "POST", body: workflow });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "AnimateDiff Loom", detail, life: severity === "error" ? undefined : 12000 });
}

function sayWhatBecameOfIt({ summary, word }, undo) {
  const found = summary ? `Translated: ${summary}.` : "There was nothing to translate.";
  say(word === "lost" ? "warn" : "success", `${found} ${summary ? undo : ""}`);
}

/** Opens a file translated: also one of the API's form. */
async function openTranslated(file) {
  try {
    const answer = await translate(file);
    const name = file.name.replace(/\.\w+$/, "");
    if (answer.workflow.nodes) await app.loadGraphData(answer.workflow, true, true, name);
    else await app.loadApiJson(answer.workflow, name);
    sayWhatBecameOfIt(answer, answer.workflow.nodes ? "The note beside the graph says what changes." : "");
  } catch (error) {
    say("error", `'${file.name}' could not be translated. ${error.message}`);
  }
}

function chooseFile() {
  const picker = document.createElement("input");
  picker.type = "file";
  picker.accept = ".json,.png,.webp,.mp4,.webm";
  picker.onchange = () => picker.files.length && openTranslated(picker.files[0]);
  picker.click();
}

function ask() {
  return app.extensionManager.dialog.confirm({
    title: "AnimateDiff Loom",
    message: "This workflow was made for AnimateDiff-Evolved. Open it with Loom's nodes?",
  });
}

/** The editor opens files of the API's form without asking extensions, and leaves out nodes that it does not know. */
async function offerDropped(event) {
  const [file] = event.dataTransfer?.files ?? [];
  if (!file?.name.endsWith(".json")) return;
  const nodes = await file.text().then(JSON.parse).then((prompt) => Object.values(prompt ?? {})).catch(() => []);
  const known = window.LiteGraph?.registered_node_types ?? {};
  const isMissing = (type) => typeof type === "string" && THEIRS.test(type) && !(type in known);
  if (nodes.some((node) => isMissing(node?.class_type)) && (await ask())) await openTranslated(file);
}

window.addEventListener("drop", offerDropped, true);

async function offer(saved) {
  if (!(await ask())) return;
  try {
    const answer = await translate(JSON.stringify(saved));
    const { workflow } = answer;
    const active = app.extensionManager.workflow.activeWorkflow;
    // The graph as it was becomes a step of undo; loading it once more tells the editor which nodes are still missing.
    app.rootGraph.configure(structuredClone(workflow));
    active?.changeTracker?.captureCanvasState?.();
    await app.loadGraphData(workflow, false, false, active);
    sayWhatBecameOfIt(answer, "The note beside the graph says what changes; undo brings the old graph back.");
  } catch (error) {
    say("error", `The workflow could not be translated. ${error.message}`);
  }
}

app.registerExtension({
  name: "AnimateDiffLoom.Migrate",

  commands: [
    {
      id: "AnimateDiffLoom.OpenTranslated",
      label: "Open AnimateDiff-Evolved workflow with Loom's nodes",
      icon: "pi pi-folder-open",
      function: chooseFile,
    },
  ],

  menuCommands: [{ path: ["File"], commands: ["AnimateDiffLoom.OpenTranslated"] }],

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
