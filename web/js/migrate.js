/**
 * Offers to translate workflows made for AnimateDiff-Evolved or ArtVentureX's AnimateDiff when one is opened whose nodes
 * are missing. The server does the work: POST /loom/migrate.
 */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

const THEIRS = /^ADE_|^AnimateDiff|^CheckpointLoaderSimpleWithNoiseSelect$/;
const COMMAND = "AnimateDiffLoom.OpenTranslated";

/** Graphs that were asked about, by id: undo, redo and tab switches load a graph again. */
const asked = new Set();

/** The graph that is being loaded, as it was saved. */
let loading = null;

const ask = () =>
  app.extensionManager.dialog.confirm({
    title: "AnimateDiff Loom",
    message: "This workflow was made for AnimateDiff-Evolved. Open it with Loom's nodes?",
  });

const say = (severity, detail, life) => app.extensionManager.toast.add({ severity, summary: "AnimateDiff Loom", detail, life });

/**
 * Translates a workflow, of the editor's form or the API's, shows it, and says what became of it.
 * @param {string | File} source JSON, or a picture or video that holds it
 * @param {(workflow: object) => Promise<string | undefined>} show gives a sentence to be said after it
 */
async function translate(source, name, show) {
  try {
    const response = await api.fetchApi("/loom/migrate?note=1", { method: "POST", body: source });
    const { workflow, summary, word, error } = await response.json();
    if (!response.ok) throw new Error(error ?? response.statusText);
    const more = (await show(workflow)) ?? "";
    const became = summary ? `Translated: ${summary}. ${more}` : "There was nothing to translate.";
    say(word === "lost" ? "warn" : "success", became, 12000);
  } catch (error) {
    say("error", `${name} could not be translated. ${error.message}`);
  }
}

function openTranslated(file) {
  return translate(file, `'${file.name}'`, async (workflow) => {
    const name = file.name.replace(/\.\w+$/, "");
    if (!workflow.nodes) return app.loadApiJson(workflow, name);
    await app.loadGraphData(workflow, true, true, name);
    return "The note beside the graph says what changes.";
  });
}

function chooseFile() {
  const picker = Object.assign(document.createElement("input"), { type: "file", accept: ".json,.png,.webp,.mp4,.webm" });
  picker.onchange = () => picker.files.length && openTranslated(picker.files[0]);
  picker.click();
}

/** The editor opens files of the API's form without asking extensions, and leaves out nodes that it does not know. */
async function offerDropped(event) {
  const [file] = event.dataTransfer?.files ?? [];
  if (!file?.name.endsWith(".json")) return;
  const prompt = await new Response(file).json().catch(() => null);
  const known = window.LiteGraph?.registered_node_types ?? {};
  const types = Object.values(prompt ?? {}).map((node) => node?.class_type);
  if (types.some((type) => THEIRS.test(type) && !(type in known)) && (await ask())) await openTranslated(file);
}

async function offer(saved) {
  if (!(await ask())) return;
  await translate(JSON.stringify(saved), "The workflow", async (workflow) => {
    const active = app.extensionManager.workflow.activeWorkflow;
    // The graph as it was becomes a step of undo; loading it once more tells the editor which nodes are still missing.
    app.rootGraph.configure(structuredClone(workflow));
    active?.changeTracker?.captureCanvasState?.();
    await app.loadGraphData(workflow, false, false, active);
    return "The note beside the graph says what changes; undo brings the old graph back.";
  });
}

window.addEventListener("drop", offerDropped, true);

app.registerExtension({
  name: "AnimateDiffLoom.Migrate",

  commands: [
    {
      id: COMMAND,
      label: "Open AnimateDiff-Evolved workflow with Loom's nodes",
      icon: "pi pi-folder-open",
      function: chooseFile,
    },
  ],

  menuCommands: [{ path: ["File"], commands: [COMMAND] }],

  beforeConfigureGraph(graph) {
    loading = structuredClone(graph);
  },

  afterConfigureGraph(missing) {
    const saved = loading;
    loading = null;
    if (!saved?.nodes || !missing?.some((entry) => THEIRS.test(entry.type ?? entry))) return;
    const { id } = app.rootGraph;
    if (asked.has(id)) return;
    asked.add(id);
    saved.id ??= id;
    // Once the editor is done with loading.
    setTimeout(() => offer(saved), 0);
  },
});
