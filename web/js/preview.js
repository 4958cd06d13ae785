/** Plays the frames of a clip in its sampler's node while they are sampled. The server sends them: loom.preview. */

import { api } from "/scripts/api.js";
import { app } from "/scripts/app.js";

import { addElement, nodesOf } from "./nodes.js";
import { rateOf } from "./timeline/graph.js";

const SETTING = "AnimateDiffLoom.MovingPreview";
const HEIGHT = 200;

/** Players by node. */
const players = new Map();
let isOn = true;
let ended = 0; // runs so far: a film that is decoded after its run must not stay

class Player {
  constructor(node) {
    this.node = node;
    this.size = [...node.size];
    this.screen = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.screen.style.cssText = "width:100%;height:100%;display:block;background:#000";
    this.widget = addElement(node, "preview", this.screen, { getMinHeight: () => HEIGHT });
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    this.grown = node.size[1];
  }

  /** @param {HTMLImageElement} film the frames, one below the other */
  show({ src, width, height }, frames, rate) {
    this.screen.setAttribute("viewBox", `0 0 ${width} ${height / frames}`);
    this.screen.innerHTML = `<image href="${src}" width="${width}" height="${height}"/>`;
    const timing = { duration: (1000 * frames) / rate, iterations: Infinity, easing: `steps(${frames})` };
    // All films begin at the same time, so that a new one goes on where the last one was.
    this.screen.firstChild.animate({ transform: ["none", `translateY(${-height}px)`] }, timing).startTime = 0;
  }

  remove() {
    if (this.node.widgets?.includes(this.widget)) this.node.removeWidget(this.widget);
    if (this.node.size[1] === this.grown) this.node.setSize([this.node.size[0], this.size[1]]);
  }
}

function removePlayers() {
  ended++;
  for (const player of players.values()) player.remove();
  players.clear();
}

async function play({ node: id, frames, total, film: bytes }) {
  const begun = ended;
  const film = Object.assign(new Image(), { src: `data:image/jpeg;base64,${bytes}` });
  await film.decode();
  if (!isOn || begun !== ended) return;
  const rate = (rateOf(app.rootGraph.nodes) * frames) / total;
  for (const node of nodesOf(id)) {
    if (!players.has(node)) players.set(node, new Player(node));
    players.get(node).show(film, frames, rate);
  }
}

/** What the server was told last: it makes pictures only for those who look at them. */
let told = "";

function tellServer() {
  const wish = JSON.stringify({ client: api.clientId, on: isOn });
  if (!api.clientId || wish === told) return;
  told = wish;
  api.fetchApi("/loom/preview", { method: "POST", body: wish });
}

app.registerExtension({
  name: "AnimateDiffLoom.Preview",
  settings: [
    {
      id: SETTING,
      category: ["AnimateDiff Loom", "Sampling", "Moving preview"],
      name: "Play the frames in the sampler's node while they are sampled",
      tooltip: "Used where ComfyUI's own live preview is off.",
      type: "boolean",
      defaultValue: true,
      onChange(value) {
        isOn = value;
        tellServer();
      },
    },
  ],

  setup() {
    api.addEventListener("loom.preview", ({ detail }) => play(detail));
    for (const end of ["execution_success", "execution_error", "execution_interrupted"]) api.addEventListener(end, removePlayers);
    api.addEventListener("status", tellServer);
    api.addEventListener("reconnected", () => {
      told = ""; // a server that was started anew knows nobody
      tellServer();
    });
    tellServer();
  },
});
